"""Figures over runs that differ only in their seed: intervals over seeds and prompts. Pure functions of arrays.

    values (S, N): S seeds × N prompts ──pooled_mean──▶ mean, interval
    two groups of runs on the same prompts ──pooled_difference──▶ difference, interval, p-value
    p-values of several differences ──holm──▶ adjusted p-values
    proxy, gold (S, T, N) ──pooled_rank_correlation──▶ ρ of the T means, interval

Every seed responds to the same prompts, so seeds and prompts are crossed random effects. Half of an interval is

    √(t²(S−1) · A + t²(N−1) · B),  A = s²(means of seeds) / S,  B = s²(means of prompts) / N

in which each part of the variance has Student's quantile of its degrees of freedom (Zou & Donner 2008). Both
contain the residual, s²(residuals) / (S N), so the interval is too wide: with 36 prompts and two, three or five
seeds its half-width is 5, 2 and 1.5 times that of known variances, and equal groups differ in at most 2, 4 and 4 %
of studies (docs/how-to/compare-runs.md). Without the second copy it would cover 91 % with two seeds, because an A
below the residual would count as no variation between seeds; with Welch's and Satterthwaite's degrees of freedom,
two groups of which only one varies between seeds would differ in 10 % of studies. A
percentile bootstrap that resamples seeds and then prompts covers 72 % with two seeds and 90 % with five, so
it is used for ρ only, which has no such formula. With one seed the variation between seeds is unknown, and
intervals cover the prompts only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from reward_evidence.statistics.monotonicity import (
    LEVEL,
    FloatArray,
    Verdict,
    prompt_resamples,
    quantile_interval,
    rank_correlations,
    spearman,
    verdict_of,
)

Counts = NDArray[np.int64]
"""How often each seed or prompt is in each resample."""

MIN_CHECKPOINTS = 4
"""With fewer checkpoints ρ takes a handful of values, and no order of them is surprising."""
_MIN_P = 1e-12
"""Smallest p-value that is computed."""


@dataclass(frozen=True, slots=True)
class PooledEstimate:
    """A mean over seeds and prompts, with its 95 % interval; null with a single prompt."""

    mean: float
    low: float | None
    high: float | None
    n_seeds: int
    n_prompts: int
    by_seed: list[float]
    """Mean over prompts of each seed."""

    @property
    def verdict(self) -> Verdict:
        """What the interval states when the mean is a change."""
        return verdict_of(self.low, self.high)


@dataclass(frozen=True, slots=True)
class PooledDifference:
    """A group's mean minus another's, on the same prompts; null with a single prompt."""

    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided, of the hypothesis that the difference is zero; at least 1e-12."""


@dataclass(frozen=True, slots=True)
class PooledCorrelation:
    """Spearman's ρ of mean proxy and mean gold over checkpoints, pooled over seeds; null where it is undefined."""

    rho: float | None
    low: float | None
    high: float | None
    by_seed: list[float | None]
    n_checkpoints: int


@dataclass(frozen=True, slots=True)
class _Part:
    """The estimate of a part of the variance, and its degrees of freedom."""

    variance: float
    df: int


def pooled_mean(values: FloatArray) -> PooledEstimate:
    """Mean of `values` (S, N), of S seeds on the same N prompts."""
    n_seeds, n_prompts = values.shape
    mean = float(values.mean())
    low, high = _interval(mean, _parts([values], values.mean(axis=0)))
    return PooledEstimate(mean, low, high, n_seeds, n_prompts, values.mean(axis=1).tolist())


def pooled_difference(values: FloatArray, others: FloatArray) -> PooledDifference:
    """Mean of `values` (S, N) minus that of `others` (R, N), paired by prompt; their seeds are independent."""
    if values.shape[1] != others.shape[1]:
        raise ValueError(f"a difference needs the same prompts in both, got {values.shape[1]}, {others.shape[1]}")
    by_prompt = values.mean(axis=0) - others.mean(axis=0)
    mean = float(by_prompt.mean())
    parts = _parts([values, others], by_prompt)
    return PooledDifference(mean, *_interval(mean, parts), _p_value(mean, parts))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number, in the same order: rejecting those up to 5 % keeps the chance of any
    false rejection below 5 % (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    ranked = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(ranked), 1.0)
    return adjusted.tolist()


def pooled_rank_correlation(proxy: FloatArray, gold: FloatArray, *, seed: int = 0) -> PooledCorrelation | None:
    """Spearman's ρ of the means of `proxy` and `gold`, (S, T, N); None with fewer than four checkpoints.

    The interval resamples seeds and prompts, the same prompts for every seed and checkpoint.
    """
    n_seeds, n_checkpoints, n_prompts = proxy.shape
    if n_checkpoints < MIN_CHECKPOINTS:
        return None
    prompts = prompt_resamples(n_prompts, seed)
    seeds = prompt_resamples(n_seeds, seed + 1) if n_seeds > 1 else np.ones((len(prompts), 1), dtype=np.int64)
    resampled = rank_correlations(_resampled(proxy, seeds, prompts), _resampled(gold, seeds, prompts))
    low, high = quantile_interval(resampled[np.isfinite(resampled)])
    return PooledCorrelation(
        rho=spearman(proxy.mean(axis=(0, 2)), gold.mean(axis=(0, 2))),
        low=low,
        high=high,
        by_seed=[spearman(p.mean(axis=1), g.mean(axis=1)) for p, g in zip(proxy, gold, strict=True)],
        n_checkpoints=n_checkpoints,
    )


def _resampled(values: FloatArray, seeds: Counts, prompts: Counts) -> FloatArray:
    """Sums over the resamples' seeds (R, S) and prompts (R, N) of `values` (S, T, N): (T, R)."""
    return np.stack([((seeds @ values[:, t]) * prompts).sum(axis=1) for t in range(values.shape[1])])


def _parts(groups: Sequence[FloatArray], by_prompt: FloatArray) -> list[_Part]:
    """The part B of the variance, and A of each group with several seeds; none with a single prompt."""
    n_prompts = len(by_prompt)
    if n_prompts < 2:
        return []
    of_seeds = [values.mean(axis=1) for values in groups if len(values) > 1]
    samples = [by_prompt, *of_seeds]
    return [_Part(float(means.var(ddof=1)) / len(means), len(means) - 1) for means in samples]


def _half_width(parts: Sequence[_Part], error_rate: float) -> float:
    quantiles = [float(stats.t.isf(error_rate / 2, part.df)) for part in parts]
    return math.sqrt(math.fsum(t**2 * part.variance for t, part in zip(quantiles, parts, strict=True)))


def _interval(mean: float, parts: Sequence[_Part]) -> tuple[float | None, float | None]:
    if not parts:
        return None, None
    half_width = _half_width(parts, 1 - LEVEL)
    return mean - half_width, mean + half_width


def _p_value(mean: float, parts: Sequence[_Part]) -> float | None:
    """The error rate at which the interval ends at zero; `_MIN_P` when it is smaller."""
    if not parts:
        return None
    if mean == 0:
        return 1.0
    if _half_width(parts, _MIN_P) <= abs(mean):
        return _MIN_P
    return float(optimize.brentq(lambda p: _half_width(parts, p) - abs(mean), _MIN_P, 1.0))
