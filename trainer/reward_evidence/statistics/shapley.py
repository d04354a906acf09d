"""Change of a product of factors, split exactly by factor. Pure functions of arrays.

    Π last - Π first = Σ partᵢ

`partᵢ` is the Shapley value of factor i: what replacing its first value by its last one adds, averaged over all
orders in which the factors can be replaced. It is an integral over t of a polynomial of degree n - 1, which
Gauss-Legendre quadrature with ⌈n / 2⌉ nodes computes exactly (Owen 1972):

    partᵢ = (lastᵢ - firstᵢ) ∫₀¹ Π_{j≠i} (firstⱼ + t (lastⱼ - firstⱼ)) dt

The reward service attributes a single reward with the same formula (`explain: true`).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

EMPTY = "empty"
"""Factor of a response that has the reward 0 because it is empty; its other factors are not given."""
_NEUTRAL = 1.0
"""Value of a factor that a response does not have: it leaves a product as it is."""


def shapley_parts(first: FloatArray, last: FloatArray) -> FloatArray:
    """The part of each of K factors in the change of M products, (M, K): `first` and `last` are (M, K)."""
    n_factors = first.shape[1]
    change = last - first
    nodes, weights = np.polynomial.legendre.leggauss((n_factors + 1) // 2)
    parts = np.zeros_like(change)
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        between = first + t * change
        for i in range(n_factors):
            parts[:, i] += weight * np.delete(between, i, axis=1).prod(axis=1)
    return change * parts


def align(first: Mapping[str, float], last: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """The first and the last value of each factor of two responses to one prompt, in the recipe's order.

    Where a feature applies to one of the two only and another takes its place (`otherwise`), they are one factor
    with both names. A factor that has no counterpart, as those of an empty response, is compared with 1.
    """
    of_first = [name for name in first if name not in last]
    of_last = [name for name in last if name not in first]
    if len(of_first) != len(of_last) or EMPTY in first or EMPTY in last:
        return {name: (first.get(name, _NEUTRAL), last.get(name, _NEUTRAL)) for name in {**first, **last}}
    replaced = dict(zip(of_first, of_last, strict=True))
    return {
        name if name in last else " or ".join(sorted((name, replaced[name]))): (
            value,
            last[replaced.get(name, name)],
        )
        for name, value in first.items()
    }
