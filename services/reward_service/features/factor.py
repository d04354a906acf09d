"""A factor of a recipe, ready to be computed.

The value of the feature is mapped by the recipe's range and floor, then clipped, then saturated or gated, then
raised to a power. Each step is monotone, so the bounds of a factor are the images of the feature's bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reward_service.features.factor_spec import FactorSpec
from reward_service.features.feature import Feature, FeatureError, Range


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor with everything that the recipe says about its feature."""

    feature: Feature[Any]
    spec: FactorSpec
    feature_bounds: Range
    """Lowest and highest value of the feature in the recipe; equal for a constant, which has no other value."""
    constant: float | None = None
    """Value of a feature that depends on nothing but the recipe."""
    range: Range | None = None
    """Values of the feature that map to 0 and 1."""
    floor: float | None = None
    """Lower bound after the mapping."""
    otherwise: Factor | None = None

    @property
    def options(self) -> Iterator[Factor]:
        """The factor, and those that replace it in turn when its feature does not apply."""
        option: Factor | None = self
        while option is not None:
            yield option
            option = option.otherwise

    def applied(self, values: Mapping[str, float | None]) -> tuple[str, float]:
        """The name of the feature that applies to an item with these values of features, and the factor.

        Raises FeatureError when it is not finite.
        """
        option: Factor | None = self
        while option is not None:
            x = option.constant if option.constant is not None else values.get(option.feature.name)
            if x is not None:
                return option.feature.name, option._of(x)
            option = option.otherwise
        raise FeatureError(f"{self.feature.name} has no value, and its factor has no `otherwise`")

    @property
    def bounds(self) -> Range:
        """Lowest and highest value; infinite when the feature has no bounds and no transform adds them."""
        low, high = (self._transformed(self._mapped(end)) for end in self.feature_bounds)
        if self.otherwise is None:
            return low, high
        other = self.otherwise.bounds
        return min(low, other[0]), max(high, other[1])

    def check_sign(self) -> None:
        """Raise FeatureError if the factor, or one that replaces it, has a transform that needs values >= 0."""
        for option in self.options:
            lowest = option._clipped(option._mapped(option.feature_bounds[0]))
            if option.spec.needs_positive and not lowest >= 0:
                transform = "power" if option.spec.saturate is None else "saturate"
                raise FeatureError(
                    f"{transform} of {option.feature.name} needs values of at least 0, "
                    f"and they can be {lowest:g}: add `clip`, or a floor"
                )

    @property
    def formula(self) -> str:
        """The factor as people read it: `min(length_incentive / 3, 1)`."""
        spec, text = self.spec, self.feature.name
        if self.range is not None and self.range != (0.0, 1.0):
            low, high = self.range
            text = f"{text} / {high:g}" if low == 0 else f"({text} - {low:g}) / {high - low:g}"
        compound = text != self.feature.name
        if self.floor is not None and self._mapped(self.feature_bounds[0]) < self.floor:
            text, compound = f"max({text}, {self.floor:g})", False
        if spec.clip is not None:
            text, compound = f"clip({text}, {spec.clip[0]:g}, {spec.clip[1]:g})", False
        if spec.saturate is not None:
            text, compound = f"min({f'({text})' if compound else text} / {spec.saturate:g}, 1)", False
        if spec.gate is not None:
            text, compound = f"gate({text}, {spec.gate[0]:g}, {spec.gate[1]:g})", False
        if compound:
            text = f"({text})"
        if spec.power is not None:
            text = f"{text}^{spec.power:g}"
        return text if self.otherwise is None else f"({text}, otherwise {self.otherwise.formula})"

    def _of(self, x: float) -> float:
        x = self._mapped(x)
        check_finite(self.feature.name, x)  # before the bounds, because max(bound, nan) is the bound
        if x < 0 and self.spec.needs_positive and self._clipped(x) < 0:
            raise FeatureError(f"{self.feature.name} is {x:g}, below the lowest value that it may have")
        return self._transformed(x)

    def _mapped(self, x: float) -> float:
        if self.range is None:
            return x
        low, high = self.range
        return (x - low) / (high - low)

    def _clipped(self, x: float) -> float:
        if self.floor is not None:
            x = max(self.floor, x)
        if self.spec.clip is not None:
            low, high = self.spec.clip
            x = min(max(x, low), high)
        return x

    def _transformed(self, x: float) -> float:
        spec, x = self.spec, self._clipped(x)
        if spec.saturate is not None:
            x = min(x / spec.saturate, 1.0)
        elif spec.gate is not None:
            low, high = spec.gate
            x = min(max((x - low) / (high - low), 0.0), 1.0)
        return x if spec.power is None else _power(x, spec.power)


def check_finite(name: str, value: float) -> None:
    """Raise FeatureError unless the value of the feature `name` is a finite number."""
    if not math.isfinite(value):
        raise FeatureError(f"{name} is not a finite number: {value}")


def _power(x: float, exponent: float) -> float:
    """`x` to the `exponent`; infinite when it is too large for a float."""
    try:
        return math.pow(x, exponent)
    except OverflowError:
        return math.inf
