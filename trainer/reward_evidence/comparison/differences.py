"""Differences of final gold between groups of runs, paired by prompt and corrected for their number.

Beside each stands what is left of it at equal length and at equal truncation: the regression of
`statistics.equal_change`, between two groups instead of two checkpoints. It takes means over seeds by prompt, so
its intervals are over prompts only.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from reward_evidence.comparison.measures import GroupValues
from reward_evidence.statistics.equal_change import EqualChange, change_at_equal
from reward_evidence.statistics.monotonicity import LEVEL, FloatArray, Verdict
from reward_evidence.statistics.pooled import holm, pooled_difference


class Difference(BaseModel):
    """Mean final gold of `group` minus that of `other`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    group: str
    other: str
    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    """By Holm's method for all differences of the comparison; null with a single prompt."""
    verdict: Verdict
    """`rose`: `group` has more; `fell`: less; by the adjusted p-value."""
    one_seed: list[str]
    """Those of the two groups with one run: how much their gold varies between seeds is not in interval and p."""
    at_equal_length: EqualChange | None = None
    """With equally many words in both groups, over prompts only."""
    at_equal_truncation: EqualChange | None = None
    """Where the token limit ended equally many, over prompts only; null when that was not recorded."""

    @property
    def lost_at_equal(self) -> list[str]:
        """`length`, `truncation`: those at which a stated difference is not shown, or cannot be told."""
        if self.verdict is Verdict.UNDECIDED:
            return []
        return [what for what, change in self._at_equal.items() if change.verdict is not self.verdict]

    @property
    def untold_at_equal(self) -> list[str]:
        """Those of `lost_at_equal` of which nothing is known: no prompt has equal responses in both groups."""
        return [what for what in self.lost_at_equal if not self._at_equal[what].can_be_told]

    @property
    def _at_equal(self) -> dict[str, EqualChange]:
        """What was recorded, by the word for it."""
        found = {"length": self.at_equal_length, "truncation": self.at_equal_truncation}
        return {what: change for what, change in found.items() if change is not None}


def final_gold_differences(
    values: Sequence[GroupValues], baseline: str | None, measure: str = "gold"
) -> list[Difference]:
    """The differences of final gold, or of another `measure`, larger first; each is of the group that has more, or
    of that which is not the baseline. None where a group lacks the measure."""
    if any(measure not in one.measures for one in values):
        return []
    by_label = {one.label: one for one in values}
    final = {label: one.measures[measure][:, -1] for label, one in by_label.items()}  # (S, N)
    if baseline is None:
        ordered = sorted(final, key=lambda label: -final[label].mean())
        pairs = list(itertools.combinations(ordered, 2))
    else:
        pairs = [(label, baseline) for label in final if label != baseline]
    found = [pooled_difference(final[group], final[other]) for group, other in pairs]
    tested = [one.p_value for one in found if one.p_value is not None]
    adjusted = holm(tested) if tested else [None] * len(found)
    return [
        Difference(
            group=group,
            other=other,
            mean=one.mean,
            low=one.low,
            high=one.high,
            p_value=one.p_value,
            p_adjusted=p,
            verdict=_verdict(one.mean, p),
            one_seed=[label for label in (group, other) if len(final[label]) == 1],
            at_equal_length=_at_equal("words", by_label[group], by_label[other], measure),
            at_equal_truncation=_at_equal("truncated", by_label[group], by_label[other], measure),
        )
        for (group, other), one, p in zip(pairs, found, adjusted, strict=True)
    ]


def _verdict(mean: float, p_adjusted: float | None) -> Verdict:
    if p_adjusted is None or p_adjusted > 1 - LEVEL:
        return Verdict.UNDECIDED
    return Verdict.ROSE if mean > 0 else Verdict.FELL


def _at_equal(covariate: str, group: GroupValues, other: GroupValues, measure: str) -> EqualChange | None:
    """The difference of `measure` at equal `covariate`; None where a group lacks the covariate."""
    if covariate not in group.measures or covariate not in other.measures:
        return None
    gold, of_covariate = (_final(group, name) - _final(other, name) for name in (measure, covariate))
    nearly = _final(other, covariate) / 10 if covariate == "words" else 0.0
    return change_at_equal(gold, of_covariate, n_equal=int((np.abs(of_covariate) <= nearly).sum()))


def _final(group: GroupValues, measure: str) -> FloatArray:
    """Mean over the seeds of a measure at the last step, by prompt: (N,)."""
    means: FloatArray = group.measures[measure][:, -1].mean(axis=0)
    return means
