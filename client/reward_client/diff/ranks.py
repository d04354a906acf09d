"""Order of the responses to one prompt under two rewards. Pure functions of numbers.

    pair_counts(a, b) ─▶ PairCounts ─▶ tau_b, share of pairs ordered differently
    ranks(a)          ─▶ 1 for the best response; tied ones share the mean of their ranks
    best(a)           ─▶ the responses with the highest reward

Rewards that agree in six significant digits are ties: a batch of other texts changes the last digits.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


def comparable(values: Sequence[float]) -> list[float]:
    """`values`, rounded to six significant digits."""
    return [float(f"{value:.5e}") for value in values]


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Pairs of responses to one prompt."""

    n: int
    tied_a: int
    """Tied under A, whether or not under B."""
    tied_b: int
    tied_both: int
    discordant: int
    """In one order under A and in the opposite one under B."""

    @property
    def concordant(self) -> int:
        """In the same order under both."""
        return self.n - self.tied_a - self.tied_b + self.tied_both - self.discordant

    @property
    def tau_b(self) -> float | None:
        """Kendall's τ-b (1945): (concordant - discordant) / √((n - tied_a)(n - tied_b)).

        None when A or B ties all responses, because there is no order to agree with.
        """
        scale = (self.n - self.tied_a) * (self.n - self.tied_b)
        return (self.concordant - self.discordant) / math.sqrt(scale) if scale else None


def pair_counts(a: Sequence[float], b: Sequence[float]) -> PairCounts:
    """Count the pairs of `len(a)` responses, in O(n log n) comparisons (Knight 1966)."""
    pairs = sorted(zip(comparable(a), comparable(b), strict=True))
    discordant, seen = 0, list[float]()
    for _, value in pairs:
        discordant += len(seen) - bisect_right(seen, value)
        insort(seen, value)
    return PairCounts(
        n=math.comb(len(pairs), 2),
        tied_a=_tied(Counter(one for one, _ in pairs)),
        tied_b=_tied(Counter(two for _, two in pairs)),
        tied_both=_tied(Counter(pairs)),
        discordant=discordant,
    )


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value, 1 for the highest; tied values share the mean of their ranks."""
    rounded = comparable(values)
    count, above, rank = Counter(rounded), 0, {}
    for value in sorted(count, reverse=True):
        rank[value] = above + (count[value] + 1) / 2
        above += count[value]
    return [rank[value] for value in rounded]


def best(values: Sequence[float]) -> list[int]:
    """Indices of the highest value; several if it is tied."""
    rounded = comparable(values)
    highest = max(rounded)
    return [index for index, value in enumerate(rounded) if value == highest]


def _tied(count: Counter[float] | Counter[tuple[float, float]]) -> int:
    return sum(math.comb(n, 2) for n in count.values())
