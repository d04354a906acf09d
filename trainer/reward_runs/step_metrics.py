"""The figures of each step: read from OpenRLHF's log, kept in `metrics.jsonl`.

OpenRLHF writes the same figures to TensorBoard, but its writer holds them back for up to two minutes and loses
them when the run is killed; the log line comes at once. A test holds that both agree.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward_runs.layout import replace_text

__all__ = ["Metrics", "Step", "parse_step", "read_metrics"]

Step = dict[str, Any]
"""One line of metrics.jsonl: `step`, `time_s`, and figures that are finite, or null."""

_STEP = re.compile(r"Global step (?P<step>\d+): \{(?P<figures>.*)\}")
_FIGURE = re.compile(r"'(?P<name>[^']+)': (?P<value>-?(?:nan|inf|\d[\d.]*(?:e[+-]?\d+)?))")

_NAMES = {
    "rollout/reward_mean": "reward",
    "rollout/reward_std": "reward_std",
    "rollout/response_length_mean": "response_length",
    "rollout/truncated_rate": "truncated",
    "actor_grad_norm": "grad_norm",
    "actor_lr": "learning_rate",
    "timing/generation": "generation_s",
    "timing/make_experience": "experience_s",
    "timing/ppo_train": "training_s",
    "timing/broadcast": "weight_sync_s",
    "timing/step_total": "step_s",
}
"""OpenRLHF's names that mean little by themselves, and ours. Lengths are in tokens."""

_DROPPED = frozenset({"rollout/num_samples", "score", "response_clip_ratio", "total_length", "logprobs_diff"})
_ONLY_WITH_REFERENCE_POLICY = frozenset({"kl"})


def parse_step(line: str, *, has_reference_policy: bool) -> Step | None:
    """Return the figures in a line of OpenRLHF's log, None when it is another line.

    Without a reference policy OpenRLHF reports a KL of 0 that nobody measured: it is left out.
    """
    found = _STEP.search(line)
    if found is None:
        return None
    raw = {match["name"]: float(match["value"]) for match in _FIGURE.finditer(found["figures"])}
    dropped = _DROPPED if has_reference_policy else _DROPPED | _ONLY_WITH_REFERENCE_POLICY
    return {"step": int(found["step"]), **_renamed(raw, dropped)}


def _renamed(raw: Mapping[str, float], dropped: frozenset[str]) -> Step:
    # The means over all rollouts come last, so they win over OpenRLHF's means over training batches.
    ordered = sorted(raw, key=lambda name: (name in _NAMES, name))
    figures = {_NAMES.get(name, name): raw[name] for name in ordered if name not in dropped}
    return {name: value if math.isfinite(value) else None for name, value in sorted(figures.items())}


def read_metrics(path: Path) -> list[Step]:
    """Read `metrics.jsonl`; empty when there is none."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Metrics:
    """The steps so far, on disk after each; a resumed run continues the file and repeats no step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.steps = read_metrics(path)

    def add(self, step: Step) -> None:
        """Append `step`; steps from it on, of an earlier attempt, are forgotten."""
        self.steps = [*(known for known in self.steps if known["step"] < step["step"]), step]
        replace_text(self._path, "".join(json.dumps(known) + "\n" for known in self.steps))

    def clear(self) -> None:
        """Forget the steps of an earlier attempt that is not continued."""
        self.steps = []
        self._path.unlink(missing_ok=True)
