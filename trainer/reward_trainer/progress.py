"""The progress line of a step. Pure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from reward_client.wire import FeatureInfo
from reward_evidence.report.formatting import duration

_LABELS_0_1 = {
    "length_incentive": "length",
    "repetition_penalty": "repetition",
    "relevance": "relevance",
    "gold_reward": "gold",
}
"""Labels for a service of release 0.1, whose `GET /info` does not list its features."""


def feature_labels(features: Sequence[FeatureInfo]) -> dict[str, str]:
    """Return the label of each log key of a feature; the key itself, as words, if several features share it."""
    if not features:
        return _LABELS_0_1
    keys = [feature.log_key for feature in features]
    return {
        feature.log_key: feature.label.lower()
        if keys.count(feature.log_key) == 1
        else feature.log_key.replace("_", " ")
        for feature in features
        if feature.log_key is not None
    }


def step_line(steps: Sequence[dict[str, Any]], n_steps: int, labels: Mapping[str, str]) -> str:
    """Return the line for the last of `steps` of `n_steps`, with the features in `labels`.

    Recent steps give the remaining time.
    """
    step = steps[-1]
    parts = [f"step {step['step']}/{n_steps}", f"reward {_formatted(step, 'reward', '.3f')}"]
    parts += [
        f"{label} {_formatted(step, name, '.2f')}" for name, label in labels.items() if step.get(name) is not None
    ]
    if step.get("kl") is not None:
        parts.append(f"KL {_formatted(step, 'kl', '.4f')}")
    parts.append(f"{_formatted(step, 'response_length', '.0f')} tokens")
    parts.append(f"{_formatted(step, 'truncated', '.0%')} truncated")
    if remaining := n_steps - step["step"]:
        times = [step["time_s"] for step in steps[-6:]]
        gaps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
        step_s = median(gaps) if gaps else step.get("step_s") or 0.0
        parts.append(f"about {duration(remaining * step_s)} left")
    return "  ".join(parts)


def _formatted(step: dict[str, Any], name: str, spec: str) -> str:
    value = step.get(name)
    return "?" if value is None else format(value, spec)
