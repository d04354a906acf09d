"""Rules that end a run, `--stop-when RULE`. Pure.

NAME            a warning of the evaluation: gold-fell, truncated, relevance-fell, repetition, kl
FIGURE>NUMBER   a figure of the last evaluated checkpoint, or of the rollouts (mean of the last five steps)
FIGURE<NUMBER
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.statistics.run_warnings import RULES

_PATTERN = re.compile(r"(?P<figure>[a-z_]+)\s*(?P<sign>[<>])\s*(?P<bound>-?\d+(?:\.\d+)?)")
_N_STEPS = 5
"""Steps of training whose mean is compared."""

OF_CHECKPOINTS: dict[str, Callable[[Evaluation], float | None]] = {
    "kl": lambda e: e.checkpoints[-1].kl.mean if e.checkpoints[-1].kl else None,
    "truncated": lambda e: e.checkpoints[-1].truncated,
    "words": lambda e: e.checkpoints[-1].n_words.mean,
    "proxy_change": lambda e: e.trend.proxy_change.mean if e.trend.proxy_change else None,
    "gold_change": lambda e: e.trend.gold_change.mean if e.trend.gold_change else None,
}
"""Figures of held-out prompts: KL in nats per response, shares from 0 to 1, changes since the first checkpoint."""
OF_ROLLOUTS = {"rollout_kl": "kl", "rollout_truncated": "truncated", "rollout_reward": "reward"}
"""Figure → its name in metrics.jsonl. KL in nats a token, as OpenRLHF logs it."""
NEED_GOLD = frozenset({"gold-fell", "gold_change"})


@dataclass(frozen=True)
class StopRule:
    """One rule, parsed."""

    text: str
    figure: str
    """A warning's name if `bound` is None."""
    is_above: bool = True
    bound: float | None = None

    @classmethod
    def parse(cls, text: str) -> "StopRule":
        """Read a rule; raise ValueError naming what there is."""
        if text in RULES:
            return cls(text, text)
        found = _PATTERN.fullmatch(text.strip())
        if found is None or found["figure"] not in {*OF_CHECKPOINTS, *OF_ROLLOUTS}:
            raise ValueError(
                f"stop rule {text!r}: use a warning ({', '.join(RULES)}), or FIGURE>NUMBER or FIGURE<NUMBER with "
                f"one of {', '.join([*OF_CHECKPOINTS, *OF_ROLLOUTS])}"
            )
        return cls(text, found["figure"], found["sign"] == ">", float(found["bound"]))

    @property
    def needs_evaluation(self) -> bool:
        """Whether it depends on evaluated checkpoints."""
        return self.figure not in OF_ROLLOUTS

    def reason(self, evaluation: Evaluation | None, steps: Sequence[Mapping[str, Any]]) -> str | None:
        """Why the run must stop, None if it must not; `steps` are those of metrics.jsonl."""
        if self.bound is None:
            found = (
                [warning for warning in evaluation.warnings if warning.rule == self.figure] if evaluation else []
            )
            return found[0].message if found else None
        value = self._value(evaluation, steps)
        if value is None or not (value > self.bound if self.is_above else value < self.bound):
            return None
        where = "" if self.needs_evaluation else f", the mean of the last {_N_STEPS} steps"
        return f"{self.figure} is {value:.4g}{where}"

    def _value(self, evaluation: Evaluation | None, steps: Sequence[Mapping[str, Any]]) -> float | None:
        if self.needs_evaluation:
            return OF_CHECKPOINTS[self.figure](evaluation) if evaluation else None
        values = [step.get(OF_ROLLOUTS[self.figure]) for step in steps[-_N_STEPS:]]
        present = [value for value in values if value is not None]
        return fmean(present) if len(present) == _N_STEPS else None
