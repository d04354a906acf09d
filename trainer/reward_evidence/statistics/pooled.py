"""Figures over runs that differ only in their seed: intervals over seeds and prompts. Pure functions of arrays.

    values (S, N): S seeds × N prompts ──pooled_mean──▶ mean, interval
    two groups of runs on the same prompts ──pooled_difference──▶ difference, interval, p-value
    p-values of several differences ──holm──▶ adjusted p-values
    proxy, gold (S, T, N) ──pooled_rank_correlation──▶ ρ of the T means, interval

Every seed responds to the same prompts, so seeds and prompts are crossed random effects. The variance of a mean is

    A + B − C,  A = s²(means of seeds) / S,  B = s²(means of prompts) / N,  C = s²(residuals) / (S N)

because A and B both contain the residual. It is never taken to be less than A or B. Intervals are Student's, with
the degrees of freedom of such a sum (Satterthwaite 1946; for crossed effects Clark 1973).

A percentile bootstrap that resamples seeds and then prompts has the same variance, except for a factor (S − 1) / S
of A. With the usual two to five seeds it covers far less than 95 %, so it is used for ρ only, which has no such
formula. With one seed the variation between seeds is unknown, and intervals cover the choice of prompts only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

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

MIN_CHECKPOINTS = 4
"""With fewer checkpoints ρ takes a handful of values, and no order of them is surprising."""


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
    """Two-sided, of the hypothesis that the difference is zero."""


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
    """An independent estimate of a part of the variance, and its degrees of freedom."""

    variance: float
    df: int


def pooled_mean(values: FloatArray) -> PooledEstimate:
    """Mean of `values` (S, N), of S seeds on the same N prompts."""
    n_seeds, n_prompts = values.shape
    mean = float(values.mean())
    seeds, residuals = _seed_parts([values])
    error, df = _standard_error(seeds, _prompt_part(values.mean(axis=0)), residuals)
    low, high = _interval(mean, error, df)
    return PooledEstimate(mean, low, high, n_seeds, n_prompts, values.mean(axis=1).tolist())


def pooled_difference(values: FloatArray, others: FloatArray) -> PooledDifference:
    """Mean of `values` (S, N) minus that of `others` (R, N), paired by prompt; their seeds are independent."""
    if values.shape[1] != others.shape[1]:
        raise ValueError(f"a difference needs the same prompts in both, got {values.shape[1]}, {others.shape[1]}")
    by_prompt = values.mean(axis=0) - others.mean(axis=0)
    mean = float(by_prompt.mean())
    seeds, residuals = _seed_parts([values, others])
    error, df = _standard_error(seeds, _prompt_part(by_prompt), residuals)
    low, high = _interval(mean, error, df)
    if error is None:
        return PooledDifference(mean, low, high, None)
    p_value = 2 * float(stats.t.sf(abs(mean) / error, df)) if error > 0 else float(mean == 0)
    return PooledDifference(mean, low, high, p_value)


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


def _resampled(values: FloatArray, seeds: FloatArray, prompts: FloatArray) -> FloatArray:
    """Sums over the resamples' seeds (R, S) and prompts (R, N) of `values` (S, T, N): (T, R)."""
    return np.stack([((seeds @ values[:, t]) * prompts).sum(axis=1) for t in range(values.shape[1])])


def _seed_parts(groups: Sequence[FloatArray]) -> tuple[list[_Part], list[_Part]]:
    """The parts A and C of the variance, for each group with several seeds."""
    seeds, residuals = [], []
    for values in groups:
        n_seeds, n_prompts = values.shape
        if n_seeds < 2 or n_prompts < 2:
            continue
        means = values.mean(axis=1, keepdims=True)
        seeds.append(_Part(float(means.var(ddof=1)) / n_seeds, n_seeds - 1))
        df = (n_seeds - 1) * (n_prompts - 1)
        residual = values - means - values.mean(axis=0) + values.mean()
        residuals.append(_Part(float((residual**2).sum()) / df / (n_seeds * n_prompts), df))
    return seeds, residuals


def _prompt_part(by_prompt: FloatArray) -> _Part | None:
    n = len(by_prompt)
    return _Part(float(by_prompt.var(ddof=1)) / n, n - 1) if n > 1 else None


def _standard_error(
    seeds: Sequence[_Part], prompts: _Part | None, residuals: Sequence[_Part]
) -> tuple[float | None, float]:
    """√(A + B − C) and its degrees of freedom; None with a single prompt."""
    if prompts is None:
        return None, 0.0
    of_seeds = math.fsum(part.variance for part in seeds)
    both = of_seeds + prompts.variance - math.fsum(part.variance for part in residuals)
    variance = max(both, of_seeds, prompts.variance)
    spread = math.fsum(part.variance**2 / part.df for part in (*seeds, prompts, *residuals))
    return math.sqrt(variance), variance**2 / spread if spread > 0 else float(prompts.df)


def _interval(mean: float, error: float | None, df: float) -> tuple[float | None, float | None]:
    if error is None:
        return None, None
    half_width = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    return mean - half_width, mean + half_width
