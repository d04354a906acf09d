"""Statistics of one run: does the gold reward rise with the proxy reward? Pure functions of arrays.

    scores of a checkpoint ──average_by_prompt──▶ one value per prompt (N,) ──estimate──▶ mean with interval
    first and last checkpoint, paired by prompt ──paired_change──▶ change, interval, verdict   (primary)
    proxy (T, N), gold (T, N) ──rank_correlation──▶ Spearman ρ of the T means, p-value, interval   (second)
    gold (T, N) ──count_falls──▶ steps at which mean gold fell
    won comparisons of each prompt ──win_rate──▶ share with Wilson's interval

Intervals cover the choice of prompts: the prompt is the sampling unit, and the samples of a prompt are averaged
first. They do not cover the variation between training runs. The primary figure is fixed before any evaluation.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

LEVEL = 0.95
"""Confidence level of every interval."""
MAX_PERMUTATIONS = 400_000
"""All T! orders are enumerated up to this number (T ≤ 9, about a second); above it, this many are sampled."""
BOOTSTRAP_RESAMPLES = 4_000
"""Resamples of prompts for the interval of ρ; its bounds then vary by about 0.01 between seeds."""
_CONSTANT = 1e-12
_ROUNDING = 5e-7
"""Scores of one text, in batches of different composition, differ by less: single precision."""


class Verdict(StrEnum):
    """Conclusion from the paired 95 % interval of a change."""

    ROSE = "rose"
    FELL = "fell"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over prompts; with fewer than two prompts the interval is undefined and null."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Change:
    """Mean of last − first over prompts, and the verdict from its interval."""

    first: float
    last: float
    mean: float
    low: float | None
    high: float | None
    n: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's ρ of two sequences of checkpoint means; null where it is undefined."""

    rho: float | None
    p_value: float | None
    low: float | None
    high: float | None
    n_checkpoints: int
    n_prompts: int
    n_permutations: int
    """Number of orders for the p-value."""
    exact: bool
    """Whether these are all orders."""


@dataclass(frozen=True, slots=True)
class Win:
    """Share of prompts whose later response has the higher reward, ties half, with its 95 % interval."""

    rate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Falls:
    """Decreases between neighbouring checkpoints."""

    falls: int
    """Number of steps at which the mean fell."""
    clear_falls: int
    """Number of steps whose paired 95 % interval is below zero (not corrected for multiple comparisons)."""
    n_steps: int


def average_by_prompt(prompt_ids: Sequence[Hashable], values: Sequence[float]) -> FloatArray:
    """Average the samples of each prompt, so that a prompt counts once: (N,), in order of first appearance."""
    groups: dict[Hashable, list[float]] = {}
    for prompt_id, value in zip(prompt_ids, values, strict=True):
        groups.setdefault(prompt_id, []).append(value)
    return np.array([math.fsum(group) / len(group) for group in groups.values()])


def estimate(values: FloatArray) -> Estimate:
    """Return the mean of `values` (N,) with Student's interval: mean ± t(0.975, N−1) · s / √N."""
    n = len(values)
    if n == 0:
        raise ValueError("a mean needs at least one prompt")
    mean = float(np.mean(values))
    if n == 1:
        return Estimate(mean, None, None, n)
    half_width = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return Estimate(mean, mean - half_width, mean + half_width, n)


def paired_change(first: FloatArray, last: FloatArray) -> Change:
    """Return the change last − first, paired by prompt: both (N,), in the same order of prompts.

    Student's interval of the N differences, in which the differences between prompts cancel. The verdict is `rose`
    or `fell` when the interval excludes zero, which is the two-sided paired t-test at 5 %.
    """
    if first.shape != last.shape:
        raise ValueError(f"a paired change needs the same prompts in both, got {first.shape} and {last.shape}")
    difference = estimate(last - first)
    verdict = verdict_of(difference.low, difference.high)
    return Change(float(np.mean(first)), float(np.mean(last)), verdict=verdict, **asdict(difference))


def verdict_of(low: float | None, high: float | None) -> Verdict:
    """What the interval of a change says: undecided unless it excludes zero, by more than rounding."""
    if is_unchanged(low, high):
        return Verdict.UNDECIDED
    if low is not None and low > 0:
        return Verdict.ROSE
    return Verdict.FELL if high is not None and high < 0 else Verdict.UNDECIDED


def is_unchanged(low: float | None, high: float | None) -> bool:
    """Whether the interval of a change is zero up to rounding, as where no response changed: without learning."""
    return low is not None and high is not None and max(-low, high) < _ROUNDING


def verdict_word(low: float | None, high: float | None) -> str:
    """The verdict on a change with this interval in a word; `unchanged` where it is zero up to rounding."""
    return "unchanged" if is_unchanged(low, high) else verdict_of(low, high).value


def spearman(x: FloatArray, y: FloatArray) -> float | None:
    """Return Spearman's ρ: Pearson's correlation of the ranks, ties with their mean rank (Spearman, 1904).

    None with fewer than two values, and when either sequence is constant and therefore has no order.
    """
    if len(x) < 2 or _is_constant(x) or _is_constant(y):
        return None
    return float(rank_correlations(x[:, None], y[:, None])[0])


def permutation_p_value(x: FloatArray, y: FloatArray, *, seed: int = 0) -> tuple[float | None, int, bool]:
    """Return the two-sided p-value of ρ if every pairing of `x` with `y` is equally likely (Fisher; Pitman, 1937).

    Returns the p-value, the number of orders, and whether these are all orders. With few checkpoints it cannot be
    small: three in perfect order have p = 1/3. It assumes exchangeable checkpoints, but neighbouring ones are
    similar, so any two trends correlate and p is too small.
    """
    if spearman(x, y) is None:
        return None, 0, True
    n_orders = math.factorial(len(x))
    centred_x = _centred(stats.rankdata(x))
    result = stats.permutation_test(
        (_centred(stats.rankdata(y)),),
        lambda ranks, axis: (ranks * centred_x).sum(axis=axis),  # ρ up to a constant factor
        permutation_type="pairings",
        vectorized=True,
        n_resamples=MAX_PERMUTATIONS,
        batch=MAX_PERMUTATIONS // 20,
        alternative="two-sided",
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue), min(n_orders, MAX_PERMUTATIONS), n_orders <= MAX_PERMUTATIONS


def rank_correlation(proxy: FloatArray, gold: FloatArray, *, seed: int = 0) -> RankCorrelation:
    """Return Spearman's ρ of mean proxy and mean gold over checkpoints: `proxy` and `gold` are (T, N).

    The interval is the percentile bootstrap over prompts (Efron, 1979), with the same prompts at every checkpoint.
    Resampling adds noise to the order of close means, so the interval is conservative: biased towards zero.
    """
    if proxy.shape != gold.shape:
        raise ValueError(f"proxy and gold need the same checkpoints and prompts, got {proxy.shape}, {gold.shape}")
    mean_proxy, mean_gold = proxy.mean(axis=1), gold.mean(axis=1)
    p_value, n_permutations, exact = permutation_p_value(mean_proxy, mean_gold, seed=seed)
    low, high = _bootstrap_rho(proxy, gold, seed)
    n_checkpoints, n_prompts = proxy.shape
    rho = spearman(mean_proxy, mean_gold)
    return RankCorrelation(rho, p_value, low, high, n_checkpoints, n_prompts, n_permutations, exact)


def _bootstrap_rho(proxy: FloatArray, gold: FloatArray, seed: int) -> tuple[float | None, float | None]:
    n_checkpoints, n_prompts = proxy.shape
    if n_checkpoints < 2:
        return None, None
    counts = prompt_resamples(n_prompts, seed)
    rhos = rank_correlations(proxy @ counts.T, gold @ counts.T)  # (R,)
    return quantile_interval(rhos[np.isfinite(rhos)])


def prompt_resamples(n_prompts: int, seed: int = 0) -> NDArray[np.int64]:
    """The bootstrap's resamples, (R, N): how often each prompt is in each; none for fewer than two prompts."""
    n_resamples = BOOTSTRAP_RESAMPLES if n_prompts > 1 else 0
    shares = np.full(n_prompts, 1 / n_prompts)
    return np.random.default_rng(seed).multinomial(n_prompts, shares, size=n_resamples)


def quantile_interval(resampled: FloatArray) -> tuple[float | None, float | None]:
    """The percentile interval of a figure's values in the resamples; None if it is defined in less than half."""
    if len(resampled) < BOOTSTRAP_RESAMPLES / 2:
        return None, None
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def win_rate(shares: Sequence[float]) -> Win:
    """Return the mean of each prompt's share of won comparisons, with Wilson's interval over prompts (1927)."""
    n = len(shares)
    rate = math.fsum(shares) / n
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    centre, scale = rate + z**2 / (2 * n), 1 + z**2 / n
    half_width = z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return Win(rate, (centre - half_width) / scale, (centre + half_width) / scale, n)


def count_falls(values: FloatArray) -> Falls:
    """Count the steps between neighbouring checkpoints at which the mean of `values` (T, N) fell."""
    changes = [paired_change(before, after) for before, after in pairwise(values)]
    return Falls(
        falls=sum(change.mean < 0 for change in changes),
        clear_falls=sum(change.verdict is Verdict.FELL for change in changes),
        n_steps=len(changes),
    )


def rank_correlations(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return ρ of each column of `x` and `y` (T, R): (R,), NaN where a column is constant."""
    ranks_x, ranks_y = _centred(stats.rankdata(x, axis=0)), _centred(stats.rankdata(y, axis=0))
    norm = np.sqrt((ranks_x**2).sum(axis=0) * (ranks_y**2).sum(axis=0))
    with np.errstate(invalid="ignore"):
        rhos: FloatArray = (ranks_x * ranks_y).sum(axis=0) / norm
    return rhos


def _centred(ranks: FloatArray) -> FloatArray:
    centred: FloatArray = ranks - ranks.mean(axis=0)
    return centred


def _is_constant(values: FloatArray) -> bool:
    """Return whether values are equal up to rounding errors, which must not define an order."""
    return float(np.ptp(values)) <= _CONSTANT * max(1.0, float(np.max(np.abs(values))))
