"""Shapes of factors: what a recipe can do with a feature's value before the power, and which shapes are tried.

    plain       x
    saturate    min(x / high, 1)
    gate        0 up to low, 1 from high, linear between
    clip        min(max(x, low), high)

All ascend: a recipe cannot pay less for more of a feature. A row that the feature does not apply to has the
factor 1 (`otherwise` in the recipe). Ends are quantiles of the feature, rounded to two significant digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from reward_evidence.engineer.table import FloatArray

Kind = Literal["plain", "saturate", "gate", "clip"]

_COARSE = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9, 0.97)
_FINE = tuple(np.linspace(0.02, 0.98, 25))

Bounds = tuple[float, float]
"""Lowest and highest value of a feature; infinite where it has none."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A feature with its transform."""

    feature: str
    kind: Kind = "plain"
    low: float = 0.0
    high: float = 1.0

    def apply(self, x: FloatArray) -> FloatArray:
        """The factor before its power, of values (N,); 1 for NaN. The arithmetic is that of the service."""
        if self.kind == "saturate":
            y = np.minimum(x / self.high, 1.0)
        elif self.kind == "gate":
            y = np.clip((x - self.low) / (self.high - self.low), 0.0, 1.0)
        elif self.kind == "clip":
            y = np.clip(x, self.low, self.high)
        else:
            y = x
        return np.where(np.isnan(x), 1.0, y)

    def settings(self) -> dict[str, float | list[float]]:
        """As a recipe states it, without feature and power."""
        if self.kind == "plain":
            return {}
        return {self.kind: self.high if self.kind == "saturate" else [self.low, self.high]}


def shapes_of(feature: str, x: FloatArray, bounds: Bounds) -> list[Shape]:
    """The shapes to try for a feature with values `x` (N,), NaN where it does not apply."""
    known = x[~np.isnan(x)]
    if not len(known) or np.ptp(known) == 0:
        return []
    points = readable_quantiles(known, _COARSE)
    found = [Shape(feature, "gate", low, high) for low, high in combinations(points, 2)]
    if bounds[0] < 0:  # powers and saturation need values of at least 0, and a gate has them
        return found
    found += [Shape(feature, "saturate", high=high) for high in points if high > 0]
    if math.isfinite(bounds[1]):
        found.append(Shape(feature))
        found += [Shape(feature, "clip", low, bounds[1]) for low in points if 0 < low < bounds[1]]
    return found


def moved(shape: Shape, x: FloatArray) -> list[Shape]:
    """The shape with one end at another quantile of `x`, or at the next numbers of two digits."""
    points = readable_quantiles(x[~np.isnan(x)], _FINE)
    found = []
    if shape.kind in ("gate", "clip"):
        found += [replace(shape, low=p) for p in [*points, *_next(shape.low)] if p < shape.high]
    if shape.kind in ("gate", "saturate"):
        found += [replace(shape, high=p) for p in [*points, *_next(shape.high)] if p > shape.low]
    return [one for one in found if one != shape and (one.kind != "clip" or one.low > 0)]


def _next(end: float) -> list[float]:
    """Numbers around `end` with two significant digits; none around 0."""
    unit = 10.0 ** (math.floor(math.log10(abs(end))) - 1) if end else 0.0
    return [readable(end + k * unit) for k in (-3, -1, 1, 3) if unit]


def readable_quantiles(known: FloatArray, at: Sequence[float]) -> list[float]:
    """Quantiles as readable numbers, ascending, each once."""
    return sorted({readable(float(q)) for q in np.quantile(known, at)})


def readable(x: float) -> float:
    """`x` with two significant digits."""
    return float(f"{x:.2g}")


@dataclass(frozen=True, slots=True)
class Term:
    """A factor of a recipe."""

    shape: Shape
    power: float

    def spec(self, *, may_be_missing: bool) -> str | dict[str, object]:
        """As a recipe states it."""
        stated: dict[str, object] = {"feature": self.shape.feature, **self.shape.settings()}
        if self.power != 1:
            stated["power"] = self.power
        if may_be_missing:
            stated["otherwise"] = dict(ONE)
        return self.shape.feature if len(stated) == 1 else stated

    @property
    def text(self) -> str:
        """As people read it."""
        shape = self.shape
        inner = {
            "plain": shape.feature,
            "saturate": f"min({shape.feature} / {shape.high:g}, 1)",
            "gate": f"gate({shape.feature}, {shape.low:g}, {shape.high:g})",
            "clip": f"clip({shape.feature}, {shape.low:g}, {shape.high:g})",
        }[shape.kind]
        return inner if self.power == 1 else f"{inner}^{self.power:g}"


ONE: Mapping[str, object] = {"feature": "max_length_incentive", "saturate": 0.01}
"""A factor that is 1 for every response: the constant is at least 0.01."""


def formula(terms: Sequence[Term]) -> str:
    """The product as people read it."""
    return " × ".join(term.text for term in terms)
