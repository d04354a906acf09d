"""Candidate factors as columns: differences of their logarithms within pairs; and fits of their powers.

Zeros are counted as 0.001 here: the additive model needs finite numbers, and `finish` judges the product itself.
Pairs with an empty response are left out, because no factor decides them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from reward_evidence.engineer.pairs import Pairs
from reward_evidence.engineer.product import logistic_loss
from reward_evidence.engineer.shapes import Bounds, Shape, shapes_of
from reward_evidence.engineer.table import BoolArray, FloatArray, Table

_ZERO = 1e-3
_SAME = 1e-9
"""Root mean square of a column up to which the factor counts as constant within prompts."""
_RIDGE = 1e-4
"""Keeps powers finite where the order of all pairs can be explained."""


@dataclass(frozen=True)
class Design:
    """C candidates for P pairs."""

    shapes: Sequence[Shape]
    features: Sequence[str]
    """Of each candidate."""
    columns: NDArray[np.float32]
    """(C, P): better minus worse, with a mean square of 1."""
    unit: FloatArray
    """(C,): what the columns were divided by."""
    weight: FloatArray
    """(P,)"""
    prompt: NDArray[np.int64]
    """(P,)"""

    def only(self, chosen: BoolArray) -> Design:
        """The pairs of a mask (P,)."""
        weight = self.weight[chosen]
        return Design(
            self.shapes,
            self.features,
            self.columns[:, chosen],
            self.unit,
            weight / weight.sum(),
            self.prompt[chosen],
        )

    def of_feature(self, name: str) -> list[int]:
        """The candidates of one feature."""
        return [c for c, feature in enumerate(self.features) if feature == name]


def design(table: Table, pairs: Pairs, bounds: Mapping[str, Bounds]) -> Design:
    """The candidates that differ within a pair, for the features in `bounds`."""
    tried = [shape for name, limits in bounds.items() for shape in shapes_of(name, table.features[name], limits)]
    return design_of(tried, table, pairs)


def design_of(tried: Sequence[Shape], table: Table, pairs: Pairs) -> Design:
    """Those of the shapes `tried` that differ within a pair."""
    used = pairs.take(~(table.empty[pairs.better] | table.empty[pairs.worse]))
    shapes: list[Shape] = []
    columns: list[NDArray[np.float32]] = []
    units: list[float] = []
    for shape in tried:
        logs = np.log(np.maximum(shape.apply(table.features[shape.feature]), _ZERO))
        column = logs[used.better] - logs[used.worse]
        unit = float(np.sqrt(used.weight @ column**2))
        if unit > _SAME:
            shapes.append(shape)
            columns.append((column / unit).astype(np.float32))
            units.append(unit)
    stacked = np.stack(columns) if columns else np.empty((0, len(used)), np.float32)
    return Design(shapes, [s.feature for s in shapes], stacked, np.array(units), used.weight, used.prompt)


@dataclass(frozen=True, slots=True)
class Fit:
    """Weights of columns, and what remains."""

    columns: tuple[int, ...]
    weights: FloatArray
    """At least 0; of the columns as they are in the design."""
    loss: float

    def powers(self, of: Design) -> FloatArray:
        """Exponents of the factors."""
        return self.weights / of.unit[list(self.columns)]

    def margin(self, of: Design) -> FloatArray:
        """(P,)"""
        if not self.columns:
            return np.zeros(of.columns.shape[1])
        return self.weights @ of.columns[list(self.columns)].astype(np.float64)


def fit(of: Design, columns: Sequence[int]) -> Fit:
    """The weights >= 0 that make gold's order of the pairs most likely (Bradley & Terry, with a small ridge)."""
    x = of.columns[list(columns)].astype(np.float64)  # (m, P)

    def objective(weights: FloatArray) -> tuple[float, FloatArray]:
        margin = weights @ x
        gradient = -(x @ (of.weight * expit(-margin))) + _RIDGE * weights
        return logistic_loss(margin, of.weight) + _RIDGE / 2 * float(weights @ weights), gradient

    found = minimize(
        objective,
        np.full(len(x), 0.5),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * len(x),
        options={"maxiter": 60, "ftol": 1e-7},
    )
    return Fit(tuple(columns), found.x, float(found.fun))


def gains(of: Design, margin: FloatArray, among: Sequence[int]) -> FloatArray:
    """How much each of the candidates `among` would lower the loss beside `margin`, by one Newton step; >= 0."""
    chance = expit(-margin)
    chosen = of.columns[list(among)]
    slope = _products(chosen, of.weight * chance)
    curvature = _products(np.square(chosen), of.weight * chance * (1 - chance)) + _RIDGE
    return np.where(slope > 0, slope**2 / (2 * curvature), 0.0)


def _products(columns: NDArray[np.float32], weight: FloatArray) -> FloatArray:
    """(C, P) times (P,). Not with BLAS, whose threads delay each other when other processes use the CPU."""
    found: FloatArray = np.einsum("cp,p->c", columns, weight.astype(np.float32)).astype(np.float64)
    return found
