"""How well rewards rank as gold does: figures by prompt, and their intervals over prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reward_evidence.engineer.pairs import Pairs
from reward_evidence.engineer.table import FloatArray, IntArray
from reward_evidence.statistics.monotonicity import BOOTSTRAP_RESAMPLES, Estimate, quantile_interval

_DIGITS = 30
"""Binary digits that are compared: two rewards that differ by rounding tie."""
_CHUNK_VALUES = 2_000_000


def accuracy_by_prompt(reward: FloatArray, pairs: Pairs, n_prompts: int) -> FloatArray:
    """(G,): share of a prompt's pairs that `reward` (N,) ranks as gold does, ties half; NaN without pairs."""
    rounded = _rounded(reward)
    difference = rounded[pairs.better] - rounded[pairs.worse]
    won = np.where(difference == 0, 0.5, difference > 0)
    with np.errstate(invalid="ignore"):
        shares: FloatArray = np.bincount(pairs.prompt, won, n_prompts) / np.bincount(
            pairs.prompt, minlength=n_prompts
        )
    return shares


def correlation_by_prompt(reward: FloatArray, gold: FloatArray, prompt: IntArray) -> FloatArray:
    """(G,): Spearman's correlation of reward and gold (N,) within each prompt.

    NaN where gold is the same for all responses of a prompt; 0 where only the reward is, because it ranks nothing.
    """
    x, y = _centred_ranks(_rounded(reward), prompt), _centred_ranks(gold, prompt)
    product, xx, yy = (np.bincount(prompt, values) for values in (x * y, x * x, y * y))
    norm = np.sqrt(xx * yy)
    found: FloatArray = np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0)
    found[yy == 0] = np.nan
    return found


def figures(by_name: Mapping[str, FloatArray], seed: int) -> dict[str, Estimate]:
    """Means of values by prompt (G,), NaN left out, with percentile intervals of the bootstrap over prompts.

    All names are resampled together, over the prompts for which all are defined.
    """
    names = list(by_name)
    stacked = np.stack([by_name[name] for name in names])
    values = stacked[:, ~np.isnan(stacked).any(axis=0)]  # (K, G)
    n = values.shape[1]
    if n == 0:
        raise ValueError("no prompt has responses that gold ranks")
    resampled = _resampled_means(values, seed)
    found = {}
    for k, name in enumerate(names):
        low, high = quantile_interval(resampled[k]) if n > 1 else (None, None)
        found[name] = Estimate(float(values[k].mean()), low, high, n)
    return found


def _resampled_means(values: FloatArray, seed: int) -> FloatArray:
    """Means of resampled prompts, (K, R), a few resamples at a time: there may be 100,000 prompts."""
    n, rng = values.shape[1], np.random.default_rng(seed)
    chunk = max(1, _CHUNK_VALUES // n)
    parts: Sequence[FloatArray] = [
        values @ rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, BOOTSTRAP_RESAMPLES - start)).T / n
        for start in range(0, BOOTSTRAP_RESAMPLES, chunk)
    ]
    return np.concatenate(parts, axis=1)


def _rounded(values: FloatArray) -> FloatArray:
    mantissa, exponent = np.frexp(values)
    rounded: FloatArray = np.ldexp(np.round(mantissa * 2**_DIGITS) / 2**_DIGITS, exponent)
    return rounded


def _centred_ranks(values: FloatArray, prompt: IntArray) -> FloatArray:
    """Ranks within prompts minus their mean, ties with their mean rank, (N,)."""
    order = np.lexsort((values, prompt))
    ordered, of = values[order], prompt[order]
    is_new = np.append(True, (np.diff(ordered) != 0) | (np.diff(of) != 0))
    run = np.cumsum(is_new) - 1
    places = np.arange(len(values), dtype=np.float64)
    ranks = np.empty(len(values))
    ranks[order] = (np.bincount(run, places) / np.bincount(run))[run]
    return ranks - (np.bincount(prompt, ranks) / np.bincount(prompt))[prompt]
