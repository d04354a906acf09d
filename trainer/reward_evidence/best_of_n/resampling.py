"""Means over prompts with intervals, and p-values of paired differences. Pure functions of arrays.

    values (P, C): P prompts × C figures ──mean_estimates──▶ C means with 95 % percentile bootstrap intervals
    differences (P, C) ──sign_flip_p_values──▶ C two-sided p-values

All figures of a call share the resampled prompts. Work is done in blocks, so memory does not grow with the number
of prompts times the number of resamples.
"""

from collections.abc import Iterator

import numpy as np

from reward_evidence.statistics.monotonicity import BOOTSTRAP_RESAMPLES, Estimate, FloatArray, quantile_interval

FLIPS = 9_999
"""Random sign flips for a p-value; the smallest possible is then 1e-4."""
_BLOCK_VALUES = 4_000_000
"""Numbers of one block."""


def mean_estimates(values: FloatArray) -> list[Estimate]:
    """Means of the columns of `values` (P, C), with intervals by resampling prompts (Efron, 1979)."""
    n = len(values)
    resampled = resampled_means(values)
    return [
        Estimate(float(mean), *quantile_interval(column), n)
        for mean, column in zip(values.mean(axis=0), resampled.T, strict=True)
    ]


def resampled_means(values: FloatArray, *, seed: int = 0) -> FloatArray:
    """Means of the columns of `values` (P, C) over resampled prompts: (R, C); (0, C) for fewer than two."""
    n, n_columns = values.shape
    if n < 2:
        return np.empty((0, n_columns))
    random = np.random.default_rng(seed)
    shares = np.full(n, 1 / n)
    means = [random.multinomial(n, shares, size=size) @ values / n for size in _blocks(BOOTSTRAP_RESAMPLES, n)]
    return np.concatenate(means)


def sign_flip_p_values(differences: FloatArray, *, seed: int = 0) -> FloatArray:
    """Two-sided p-values (C,) of the hypothesis that the columns of `differences` (P, C) are symmetric around 0.

    A permutation test for pairs: the sign of each prompt's difference is as likely as its opposite (Fisher, 1935).
    """
    n = len(differences)
    observed = np.abs(differences.sum(axis=0)) * (1 - 1e-9)  # rounding must not make an equal sum smaller
    random = np.random.default_rng(seed)
    as_large = np.zeros(differences.shape[1])
    for size in _blocks(FLIPS, n):
        signs = 2.0 * random.integers(0, 2, size=(size, n)) - 1.0
        as_large += (np.abs(signs @ differences) >= observed).sum(axis=0)
    p_values: FloatArray = (as_large + 1) / (FLIPS + 1)
    return p_values


def _blocks(n_rows: int, n_columns: int) -> Iterator[int]:
    """Numbers of rows of the blocks that make up (n_rows, n_columns)."""
    size = max(1, _BLOCK_VALUES // n_columns)
    yield from (min(size, n_rows - begin) for begin in range(0, n_rows, size))
