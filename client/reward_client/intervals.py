"""95 % intervals of figures over prompts, in pure Python, for commands of the base install.

mean_over_prompts, ratio_over_prompts    percentile bootstrap over prompts (Efron 1979), with a seed
share_over_prompts                       Wilson's interval (1927): also sensible for 0 of n and n of n
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from pydantic import BaseModel, ConfigDict

_N_RESAMPLES = 1_000
_MAX_UNITS = 300
_TAIL = 0.025
_Z = 1.959964
"""Quantile of the normal distribution at 1 - _TAIL."""


class Estimate(BaseModel):
    """A figure with its 95 % interval; null where it is not defined. An interval needs two prompts."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    value: float | None
    low: float | None = None
    high: float | None = None
    n_prompts: int


def mean_over_prompts(values: Sequence[float], seed: int | None) -> Estimate:
    """The mean of one value for each prompt, without an interval if `seed` is None."""
    return ratio_over_prompts([(value, 1.0) for value in values], seed)


def ratio_over_prompts(pairs: Sequence[tuple[float, float]], seed: int | None) -> Estimate:
    """The sum of the first numbers over that of the second ones, which are at least 0; one pair for each prompt.

    Above 300 prompts, the resamples are drawn from 300 random groups of them: the variance of the sums is the
    same, and the time is bounded.
    """
    value = _ratio(pairs)
    if value is None or seed is None or len(pairs) < 2:
        return Estimate(value=value, n_prompts=len(pairs))
    random = Random(seed)
    units = _grouped(random.sample(pairs, len(pairs)))
    found = (_ratio(random.choices(units, k=len(units))) for _ in range(_N_RESAMPLES))
    resampled = sorted(ratio for ratio in found if ratio is not None)
    last = len(resampled) - 1
    return Estimate(
        value=value,
        low=resampled[round(_TAIL * last)],
        high=resampled[round((1 - _TAIL) * last)],
        n_prompts=len(pairs),
    )


def share_over_prompts(n_true: int, n: int) -> Estimate:
    """The share of `n` prompts, each of which counts as one independent observation."""
    if n == 0:
        return Estimate(value=None, n_prompts=0)
    share, z2 = n_true / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half), n_prompts=n)


def _grouped(pairs: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(pairs) <= _MAX_UNITS:
        return pairs
    groups = (pairs[start::_MAX_UNITS] for start in range(_MAX_UNITS))
    return [(math.fsum(one for one, _ in group), math.fsum(two for _, two in group)) for group in groups]


def _ratio(pairs: Sequence[tuple[float, float]]) -> float | None:
    total = math.fsum(two for _, two in pairs)
    return math.fsum(one for one, _ in pairs) / total if total > 0 else None
