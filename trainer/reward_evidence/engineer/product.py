"""Rewards of a product of terms, and how likely it makes gold's order of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from reward_evidence.engineer.pairs import Pairs
from reward_evidence.engineer.shapes import Shape, Term
from reward_evidence.engineer.table import FloatArray, Table

_NEWTON_STEPS = 12
_SAME_SCALE = 0.01
_SCALES = (1e-3, 1e3)
"""Bounds on the scale: without a bound it is infinite where every pair is explained."""


def rewards(terms: Sequence[Term], table: Table) -> FloatArray:
    """The rewards of the rows, (N,), as the service computes them."""
    product = np.ones(len(table))
    for term in terms:
        product = product * np.power(term.shape.apply(table.features[term.shape.feature]), term.power)
    return np.where(table.empty, 0.0, product)


def log_rewards(terms: Sequence[Term], table: Table) -> FloatArray:
    """The logarithms of the rewards, (N,); see `LogTable.sum`."""
    return LogTable(table).sum([(term.shape, term.power) for term in terms])


@dataclass
class LogTable:
    """Logarithms of factors, each computed once."""

    table: Table
    _known: dict[Shape, FloatArray] = field(default_factory=dict)

    def of(self, shape: Shape) -> FloatArray:
        """The logarithm of the factor before its power, (N,); -inf for 0."""
        if shape not in self._known:
            with np.errstate(divide="ignore"):
                self._known[shape] = np.log(shape.apply(self.table.features[shape.feature]))
        return self._known[shape]

    def sum(self, terms: Sequence[tuple[Shape, float]]) -> FloatArray:
        """Logarithms of products, (N,). Rewards of 0 all have one value, below those of all others."""
        total = np.zeros(len(self.table))
        for shape, power in terms:
            total = total + power * self.of(shape)
        total[self.table.empty] = -np.inf
        positive = total[np.isfinite(total)]
        lowest = positive.min() - max(positive.std(), 1e-6) if len(positive) else 0.0
        return np.where(np.isfinite(total), total, lowest)


def logistic_loss(margin: FloatArray, weight: FloatArray) -> float:
    """Mean of log(1 + exp(-margin)) over pairs, both (P,) (Bradley & Terry, 1952)."""
    return float(weight @ np.logaddexp(0.0, -margin))


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How well rewards explain gold's order."""

    loss: float
    """Nats a pair, at the best scale; log 2 without any information."""
    scale: float
    """What differences of log rewards are multiplied by: the odds that gold prefers a response."""


def likelihood(log_reward: FloatArray, pairs: Pairs) -> Likelihood:
    """The loss of log rewards (N,) at the best scale. Ranks do not determine the scale of a recipe's powers."""
    margin = log_reward[pairs.better] - log_reward[pairs.worse]
    spread = float(np.sqrt(pairs.weight @ margin**2))
    if spread == 0:
        return Likelihood(float(np.log(2)), 0.0)
    unit, scale = margin / spread, 1.0
    for _ in range(_NEWTON_STEPS):  # the loss is convex in the scale
        chance = expit(-scale * unit)
        weighted = pairs.weight * chance * unit
        slope, curvature = -weighted.sum(), float((weighted * (1 - chance)) @ unit)
        step = slope / max(curvature, 1e-12)
        scale = float(np.clip(scale - step, scale / 4, scale * 4).clip(*_SCALES))
        if abs(step) < _SAME_SCALE * scale:
            break
    return Likelihood(logistic_loss(scale * unit, pairs.weight), scale / spread)
