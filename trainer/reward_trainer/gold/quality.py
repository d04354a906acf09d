"""Pairwise accuracy of a gold model, compared with the baseline "the longer response wins".

Pairs of one prompt are not independent, so the bootstrap resamples prompts, not pairs. Subsets:

    in distribution     pairs of the sources that the model was fitted on, with other prompts
    controlled          … whose word counts differ by at most 10 %, so that length is not informative
    without a model's   … whose preferences a model did not state, as far as is recorded
    both of these       … for which both hold
    chosen shorter      … whose preferred response has fewer words, so that "longer wins" is always wrong
    chosen longer       … whose preferred response has more words
    one row per source  sources that the model was not fitted on are marked
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from reward_trainer.gold.preferences import Pair, n_words

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RESAMPLES = 2000
"""Bootstrap resamples of the prompts behind each interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; None with fewer than two prompts."""

    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Row:
    """One subset of the test pairs."""

    name: str
    n_pairs: int
    n_prompts: int
    model: Estimate
    longer_wins: Estimate
    difference: Estimate
    """model − longer wins, paired."""


def quality(
    pairs: Sequence[Pair],
    margins: Sequence[float],
    fitted_on: set[str],
    by_model: Collection[str] = (),
    seed: int = 0,
) -> list[Row]:
    """Return one row for each subset that is not empty.

    Args:
        pairs: the test pairs.
        margins: score(chosen) − score(rejected) of each.
        fitted_on: sources that the model was fitted on.
        by_model: sources whose preferences another model stated.
        seed: of the bootstrap.
    """
    prompts = np.unique([pair.prompt for pair in pairs], return_inverse=True)[1]
    chosen, rejected = (np.array([n_words(getattr(p, side)) for p in pairs]) for side in ("chosen", "rejected"))
    right, longer = _wins(np.asarray(margins, dtype=float)), _wins((chosen - rejected).astype(float))
    return [
        Row(
            name,
            int(chosen_rows.sum()),
            len(np.unique(prompts[chosen_rows])),
            *(
                _estimate(values[chosen_rows], prompts[chosen_rows], seed)
                for values in (right, longer, right - longer)
            ),
        )
        for name, chosen_rows in _subsets(pairs, chosen, rejected, fitted_on, by_model).items()
        if chosen_rows.any()
    ]


def _wins(margins: Floats) -> Floats:
    """Return 1 for positive margins, ½ for zero, 0 for negative ones."""
    wins: Floats = (np.sign(margins) + 1) / 2
    return wins


def _subsets(
    pairs: Sequence[Pair],
    chosen: NDArray[np.int_],
    rejected: NDArray[np.int_],
    fitted_on: set[str],
    by_model: Collection[str],
) -> dict[str, Bools]:
    sources = np.array([pair.source for pair in pairs])
    known = np.isin(sources, sorted(fitted_on))
    others = known & ~np.isin(sources, sorted(by_model))
    alike = np.abs(chosen - rejected) <= 0.1 * np.maximum(chosen, rejected)
    subsets = {
        "in distribution": known,
        "controlled": known & alike,
        **({} if (others == known).all() else {"without a model's": others, "both of these": others & alike}),
        "chosen shorter": known & (chosen < rejected),
        "chosen longer": known & (chosen > rejected),
    }
    for source in sorted(set(sources), key=lambda s: (s not in fitted_on, s)):
        subsets[source if source in fitted_on else f"{source} (not fitted on)"] = sources == source
    return subsets


def _estimate(values: Floats, prompts: NDArray[np.int_], seed: int) -> Estimate:
    """Return the mean of `values` with a percentile bootstrap interval over `prompts`."""
    clusters = np.unique(prompts, return_inverse=True)[1]
    sums, counts = np.bincount(clusters, values), np.bincount(clusters)
    mean = float(values.mean())
    if len(counts) < 2:
        return Estimate(mean, None)
    result = bootstrap(
        (sums, counts),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Estimate(mean, (float(interval.low), float(interval.high)))
