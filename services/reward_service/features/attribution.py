"""Attribution: a product of factors as a sum, the baseline's product plus one part for each factor.

    reward = Π fᵢ = Π bᵢ + Σ partᵢ

`partᵢ` is the Shapley value of factor i in the game "factors in the set S have their values f, the others their
baseline values b": what replacing bᵢ by fᵢ adds, averaged over all orders in which the factors can be replaced.

The game's multilinear extension is a product of linear functions, so that the average is an integral over t of a
polynomial of degree n - 1, which Gauss-Legendre quadrature with ⌈n / 2⌉ nodes computes exactly (Owen 1972):

    partᵢ = (fᵢ - bᵢ) ∫₀¹ Π_{j≠i} (bⱼ + t (fⱼ - bⱼ)) dt
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from reward_client.wire import Attribution
from reward_service.features.factor import Factor
from reward_service.features.feature import FeatureError

_NEUTRAL = 1.0
"""Baseline value of a factor: it leaves a product as it is. That of a constant is its value, so its part is 0."""


def attribution(factors: Sequence[Factor], values: Mapping[str, float | None], *, empty: bool) -> Attribution:
    """The parts of the product of `factors` for an item with these values of features.

    Args:
        factors: of the item's query type. Two factors of the same feature count as one.
        values: of features by name; not needed for an empty item.
        empty: whether the item earns 0 because its response is empty; the factor `empty` stands for that.

    Raises:
        FeatureError: a factor has no value, or a product of factors and baseline values is not finite.
    """
    multiplied = {"empty": 0.0} if empty else {}
    baseline = dict.fromkeys(multiplied, _NEUTRAL)
    for factor in factors:
        is_constant = factor.constant is not None
        if empty and not is_constant:
            continue
        name, value = factor.applied(values)
        multiplied[name] = multiplied.get(name, _NEUTRAL) * value
        baseline[name] = baseline.get(name, _NEUTRAL) * (value if is_constant else _NEUTRAL)
    parts = shapley_parts(list(multiplied.values()), list(baseline.values()))
    if not all(map(math.isfinite, parts)):
        raise FeatureError("the reward has no attribution: a product of its factors and 1 is not a finite number")
    return Attribution(
        baseline_reward=math.prod(baseline.values()),
        factors=multiplied,
        baseline=baseline,
        parts=dict(zip(multiplied, parts, strict=True)),
    )


def shapley_parts(factors: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """The part of each factor; their sum is the product of `factors` minus the product of `baseline`."""
    changes = [factor - base for factor, base in zip(factors, baseline, strict=True)]
    sums = [0.0] * len(changes)
    for t, weight in _quadrature((len(changes) + 1) // 2):
        between = [base + t * change for base, change in zip(baseline, changes, strict=True)]
        for i in range(len(between)):
            sums[i] += weight * math.prod(between[:i]) * math.prod(between[i + 1 :])
    return [change * total for change, total in zip(changes, sums, strict=True)]


@lru_cache
def _quadrature(n_nodes: int) -> tuple[tuple[float, float], ...]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1]: exact for polynomials up to 2 n_nodes - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return tuple(zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))
