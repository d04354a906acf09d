"""A factor as a recipe states it: a feature, and what is done with its value.

    repetition_penalty                               x, the feature's value
    {feature: length_incentive, saturate: 3}         min(x / 3, 1)
    {feature: query_relevance, gate: [0.1, 0.3]}     0 up to 0.1, 1 from 0.3, linear between
    {feature: semantic_novelty, clip: [0.2, 1]}      min(max(x, 0.2), 1)
    {feature: repetition_penalty, power: 8}          x ** 8
    {feature: reference_match, otherwise: …}         another factor for items that the feature does not apply to

`factor` computes them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from reward_service.features.feature import Range
from reward_service.features.registry import FeatureRegistry, did_you_mean

Positive = Annotated[float, Field(gt=0)]

_BUILTIN = FeatureRegistry()


def registry_of(info: ValidationInfo) -> FeatureRegistry:
    """The features that may be used: those of the validation's context, or the built-in ones."""
    return info.context if isinstance(info.context, FeatureRegistry) else _BUILTIN


class FactorSpec(BaseModel):
    """A factor; a plain one is written as the feature's name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    feature: str
    clip: Range | None = None
    """Bounds of the value."""
    saturate: Positive | None = None
    """Value from which on the factor is 1; it is proportional below."""
    gate: Range | None = None
    """Values up to which the factor is 0 and from which on it is 1; linear between."""
    power: Positive | None = None
    """Exponent, applied last."""
    otherwise: FactorSpec | None = None
    """The factor of items that the feature does not apply to."""

    @model_validator(mode="before")
    @classmethod
    def _name_or_known_fields(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"feature": given}
        for key in given if isinstance(given, dict) else ():
            if key not in cls.model_fields:
                known = ", ".join(cls.model_fields)
                of = f" of {given['feature']}" if "feature" in given else ""
                hint = did_you_mean(str(key), cls.model_fields)
                raise ValueError(f"the factor{of} has an unknown setting {key!r}; {hint}known: {known}")
        return given

    @field_validator("feature")
    @classmethod
    def _feature_is_known(cls, name: str, info: ValidationInfo) -> str:
        registry_of(info).find(name)
        return name

    @model_validator(mode="after")
    def _transforms_are_consistent(self) -> FactorSpec:
        for field in ("clip", "gate"):
            bounds = getattr(self, field)
            if bounds is not None and not 0 < bounds[1] - bounds[0] < math.inf:
                raise ValueError(f"{field} of {self.feature} must ascend, got {list(bounds)}")
        if self.saturate is not None and self.gate is not None:
            raise ValueError(f"{self.feature} has saturate and gate, at most one of them is allowed")
        return self

    @property
    def features(self) -> list[str]:
        """Its feature, and those that replace it in turn."""
        return [self.feature, *(self.otherwise.features if self.otherwise is not None else ())]

    @property
    def needs_positive(self) -> bool:
        """Whether the transforms are defined for values of at least 0 only."""
        return self.gate is None and (self.saturate is not None or self.power is not None)

    @model_serializer
    def _shortest(self) -> str | dict[str, Any]:
        """As in a recipe: the name alone if nothing else is set."""
        fields = {name: getattr(self, name) for name in FactorSpec.model_fields}
        stated: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        for name in ("clip", "gate"):
            if name in stated:
                stated[name] = list(stated[name])
        if self.otherwise is not None:
            stated["otherwise"] = self.otherwise.model_dump()
        return self.feature if len(stated) == 1 else stated
