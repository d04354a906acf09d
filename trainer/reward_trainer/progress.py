"""What a person sees of a step, in one line: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from reward_client.wire import FeatureInfo

__all__ = ["duration", "feature_labels", "step_line"]


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def feature_labels(features: Sequence[FeatureInfo]) -> dict[str, str]:
    """Label of each figure that features are logged under; the log key's words where features share one."""
    keys = [feature.log_key for feature in features]
    return {
        f.log_key: f.label.lower() if keys.count(f.log_key) == 1 else f.log_key.replace("_", " ")
        for f in features
        if f.log_key is not None
    }


def step_line(steps: Sequence[dict[str, Any]], n_steps: int, labels: Mapping[str, str]) -> str:
    """The line for the last of `steps` of `n_steps`, with the features that `labels` name.

    The remaining time is estimated from the recent steps.
    """
    step = steps[-1]
    parts = [f"step {step['step']}/{n_steps}", f"reward {_figure(step, 'reward', '.3f')}"]
    parts += [
        f"{words} {_figure(step, name, '.2f')}" for name, words in labels.items() if step.get(name) is not None
    ]
    if step.get("kl") is not None:
        parts.append(f"KL {_figure(step, 'kl', '.4f')}")
    parts.append(f"{_figure(step, 'response_length', '.0f')} tokens")
    parts.append(f"{_figure(step, 'truncated', '.0%')} truncated")
    left = n_steps - step["step"]
    if left:
        parts.append(f"about {duration(left * _pace_s(steps))} left")
    return "  ".join(parts)


def _figure(step: dict[str, Any], name: str, how: str) -> str:
    value = step.get(name)
    return "?" if value is None else format(value, how)


def _pace_s(steps: Sequence[dict[str, Any]]) -> float:
    times = [step["time_s"] for step in steps[-6:]]
    gaps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return float(median(gaps)) if gaps else float(steps[-1].get("step_s") or 0.0)
