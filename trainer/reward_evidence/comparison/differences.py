"""Differences of final gold between groups of runs, paired by prompt and corrected for their number."""

import itertools
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from reward_evidence.comparison.measures import GroupValues
from reward_evidence.statistics.monotonicity import LEVEL, Verdict
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


def final_gold_differences(
    values: Sequence[GroupValues], baseline: str | None, measure: str = "gold"
) -> list[Difference]:
    """The differences of final gold, or of another `measure`, larger first; each is of the group that has more, or
    of that which is not the baseline. None where a group lacks the measure."""
    if any(measure not in one.measures for one in values):
        return []
    final = {one.label: one.measures[measure][:, -1] for one in values}  # (S, N)
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
        )
        for (group, other), one, p in zip(pairs, found, adjusted, strict=True)
    ]


def _verdict(mean: float, p_adjusted: float | None) -> Verdict:
    if p_adjusted is None or p_adjusted > 1 - LEVEL:
        return Verdict.UNDECIDED
    return Verdict.ROSE if mean > 0 else Verdict.FELL
