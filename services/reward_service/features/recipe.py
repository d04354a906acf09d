"""A recipe is data: the features that are multiplied into the reward, for each query type.

    open_ended    [length_incentive, query_relevance, repetition_penalty]          LI × QR × RP
    closed_ended  [max_length_incentive, reference_relevance, repetition_penalty]  (tokens / 100) × RAR × RP

A factor with a range is mapped linearly, range → [0, 1], and then bounded below by its floor. Both relevances
always have a range (`*_relevance_range`, `relevance_floor`); other features have one if `feature_ranges` and
`feature_floors` set it. Source: Kim & Seo (EMNLP 2024) (reward branching).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from reward_client.wire import AnyQueryType, QueryType
from reward_service.features.builtin import GOLD
from reward_service.features.feature import (
    Feature,
    FeatureError,
    GoldScore,
    Range,
    RecipeOnly,
    ResponseText,
    Similarity,
    VectorPair,
)
from reward_service.features.registry import FeatureRegistry
from reward_service.features.text import DEFAULT_STOP_STRINGS

_BUILTIN = FeatureRegistry()
_RELEVANCE = ("query_relevance", "reference_relevance")
_RANGE_FIELDS = (*(f"{name}_range" for name in _RELEVANCE), "reward_range")

Factors = Annotated[tuple[str, ...], Field(min_length=1)]


class Recipe(BaseModel):
    """The complete definition of one reward: two recipes with the same `hash` give the same rewards.

    Validate with `context=FeatureRegistry` to allow features of plug-ins; the built-in ones are known without.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    description: str = ""
    open_ended: Factors
    """Names of the features multiplied for open-ended prompts."""
    closed_ended: Factors
    """Names of the features multiplied for closed-ended prompts."""
    similarity: Similarity = Similarity.COSINE
    query_relevance_range: Range = (0.0, 1.0)
    """Similarities of prompt and response that map to 0 and 1; linear, not clipped."""
    reference_relevance_range: Range = (0.0, 1.0)
    """Similarities of reference and response that map to 0 and 1."""
    relevance_floor: float | None = 0.0
    """Lower bound on a mapped relevance; null for no bound."""
    feature_ranges: dict[str, Range] = {}
    """Values of other features that map to 0 and 1, by feature name; linear, not clipped."""
    feature_floors: dict[str, float] = {}
    """Lower bounds on other features, after the mapping, by feature name."""
    max_response_tokens: Annotated[int, Field(gt=0, le=1_000_000)] = 512
    """The policy's limit on new tokens: the scale of closed-ended rewards is a hundredth of it."""
    stop_strings: tuple[Annotated[str, Field(min_length=1)], ...] = DEFAULT_STOP_STRINGS
    cut_response: bool = True
    """Whether text features see the response cut at the first stop string."""
    relevance_sees_cut_response: bool = True
    """Whether relevance sees it cut too; the reference implementation uses the whole response."""
    empty_is_zero: bool = True
    """Give an empty response the reward 0, regardless of its features."""
    query_type_default: AnyQueryType | None = None
    """Query type of items that have a reference and no query type."""
    reward_range: Range | None = None
    """Interval of rewards, when it cannot be derived from the factors (features without bounds)."""
    calibrated_for: str | None = None
    """Encoder that the ranges were measured with; null when they fit any encoder."""

    _registry: FeatureRegistry = PrivateAttr(default=_BUILTIN)

    @field_validator("open_ended", "closed_ended")
    @classmethod
    def _factors_must_be_features(cls, names: Factors, info: ValidationInfo) -> Factors:
        for name in names:
            _registry_of(info).find(name)
        return names

    @model_validator(mode="after")
    def _ranges_must_ascend(self) -> Recipe:
        ranges: dict[str, Range | None] = {field: getattr(self, field) for field in _RANGE_FIELDS}
        ranges |= {f"feature_ranges.{name}": bounds for name, bounds in self.feature_ranges.items()}
        for field, bounds in ranges.items():
            if bounds is not None and not bounds[0] < bounds[1]:
                raise ValueError(f"{field} must ascend, got {list(bounds)}")
        return self

    @model_validator(mode="after")
    def _mapped_features_must_be_factors(self) -> Recipe:
        for field in ("feature_ranges", "feature_floors"):
            for name in getattr(self, field):
                if name in _RELEVANCE:
                    raise ValueError(f"{field} cannot set {name}: use {name}_range and relevance_floor")
                if name not in self._names:
                    raise ValueError(f"{field} names {name!r}, which is not a factor of this recipe")
        return self

    @model_validator(mode="after")
    def _reward_range_must_be_known(self, info: ValidationInfo) -> Recipe:
        """Trainers clip rewards to it and OpenRLHF's scores depend on it: a wrong range is worse than an error."""
        self._registry = _registry_of(info)
        bounds = {n: self._registry[n].bounds(self) for n in self._names if n not in self.constants}
        unbounded = [name for name, ends in bounds.items() if not all(map(math.isfinite, ends))]
        if self.reward_range is None and unbounded:
            raise ValueError(f"reward_range is needed, because {unbounded[0]} has no bounds in this recipe")
        low, high = self.bounds()
        if not low < high:
            raise ValueError(f"every response would earn {low:g}: no factor depends on it")
        return self

    @cached_property
    def hash(self) -> str:
        """Content hash, 12 hex digits: covers everything that can change a reward, not the name."""
        unused = {name for name in ("feature_ranges", "feature_floors") if not getattr(self, name)}
        content = self.model_dump(mode="json", exclude={"name", "description"} | unused)
        packages = {name: package for name in self._names if (package := self._registry.package(name))}
        if packages:
            content["feature_packages"] = packages
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def factors(self, query_type: QueryType) -> tuple[Feature[Any], ...]:
        """The features multiplied for `query_type`."""
        return self._factors[query_type]

    @cached_property
    def reported(self) -> tuple[Feature[Any], ...]:
        """The features that results list: all built-in ones and the recipe's own.

        Constants are not measured, and the gold score has a separate field.
        """
        return tuple(
            feature
            for name, feature in self._registry.items()
            if self._is_builtin_or_used(name) and feature.needs is not RecipeOnly and feature is not GOLD
        )

    @cached_property
    def needs_encoder(self) -> bool:
        """Whether a factor of either branch is computed from embeddings."""
        return any(self.vector_features.values())

    @cached_property
    def needs_gold(self) -> bool:
        """Whether a factor of either branch is the gold score."""
        return any(self.gold_features.values())

    @cached_property
    def constants(self) -> dict[str, float]:
        """Values of the factors that depend on nothing but the recipe, by name. Raises FeatureError."""
        used = [self._registry[name] for name in self._names]
        values = {f.name: f.value(RecipeOnly(self)) for f in used if f.needs is RecipeOnly}
        for name, value in values.items():
            _check_finite(name, value)
        return values

    def logs(self, features: Mapping[str, float | None]) -> dict[str, float]:
        """Logged values of one item by log key; every item of a recipe has the same keys.

        Features may share a key: the first that applies to the item counts, or 0 when none does.
        """
        values = dict.fromkeys((key for key, _ in self._logged), 0.0)
        for key, name in reversed(self._logged):
            value = features.get(name)
            if value is not None:
                values[key] = value
        return values

    def with_overrides(self, overrides: Mapping[str, Any]) -> Recipe:
        """A copy with parameters replaced and validated again. Raises pydantic.ValidationError."""
        content = self.model_dump() | dict(overrides) | {"name": self.name}
        return Recipe.model_validate(content, context=self._registry)

    def combine(self, query_type: QueryType, values: Mapping[str, float]) -> float:
        """The reward: the product of the branch's factors. Raises FeatureError when a factor is not finite."""
        return math.prod(self._factor(feature, values) for feature in self.factors(query_type))

    def bounds(self) -> Range:
        """Interval that rewards lie in: given, or the hull of both branches' products."""
        if self.reward_range is not None:
            return self.reward_range
        branches = [self._branch_bounds(query_type) for query_type in QueryType]
        return min(low for low, _ in branches), max(high for _, high in branches)

    def _factor(self, feature: Feature[Any], values: Mapping[str, float]) -> float:
        name = feature.name
        return self._mapped(name, self.constants[name] if name in self.constants else values[name])

    def _mapped(self, name: str, value: float) -> float:
        if name in self._ranges:
            low, high = self._ranges[name]
            value = (value - low) / (high - low)
        _check_finite(name, value)  # before the floor, because max(floor, nan) is the floor
        floor = self._floors.get(name)
        return value if floor is None else max(floor, value)

    def _branch_bounds(self, query_type: QueryType) -> Range:
        """Interval product of the branch's factors."""
        low = high = 1.0
        for feature in self.factors(query_type):
            constant = self.constants.get(feature.name)
            bounds = feature.bounds(self) if constant is None else (constant, constant)
            ends = [self._mapped(feature.name, end) for end in bounds]
            corners = [x * y for x in (low, high) for y in ends]
            low, high = min(corners), max(corners)
        return low, high

    def _is_builtin_or_used(self, name: str) -> bool:
        return name in self._names or self._registry.package(name) is None

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Factors of both branches, each once."""
        return tuple(dict.fromkeys(self.open_ended + self.closed_ended))

    @cached_property
    def _ranges(self) -> dict[str, Range]:
        relevance = {name: getattr(self, f"{name}_range") for name in _RELEVANCE}
        return relevance | self.feature_ranges

    @cached_property
    def _floors(self) -> dict[str, float | None]:
        return {**dict.fromkeys(_RELEVANCE, self.relevance_floor), **self.feature_floors}

    @cached_property
    def _factors(self) -> dict[QueryType, tuple[Feature[Any], ...]]:
        branches = {QueryType.OPEN_ENDED: self.open_ended, QueryType.CLOSED_ENDED: self.closed_ended}
        return {kind: tuple(self._registry[name] for name in names) for kind, names in branches.items()}

    @cached_property
    def text_features(self) -> dict[QueryType, tuple[Feature[Any], ...]]:
        """The text features to compute for an item: all built-in ones, and those of its branch."""
        text = [f for f in self.reported if f.needs is ResponseText]
        return {
            kind: tuple(f for f in text if f in branch or self._registry.package(f.name) is None)
            for kind, branch in self._factors.items()
        }

    @cached_property
    def vector_features(self) -> dict[QueryType, tuple[Feature[Any], ...]]:
        """The factors that are computed from embeddings."""
        return self._factors_computed_from(VectorPair)

    @cached_property
    def gold_features(self) -> dict[QueryType, tuple[Feature[Any], ...]]:
        """The factors that are computed from the gold score."""
        return self._factors_computed_from(GoldScore)

    def _factors_computed_from(self, inputs: type) -> dict[QueryType, tuple[Feature[Any], ...]]:
        return {
            kind: tuple(f for f in branch if issubclass(f.needs, inputs)) for kind, branch in self._factors.items()
        }

    @cached_property
    def _logged(self) -> list[tuple[str, str]]:
        """(log key, name) of the features that are measured in some branch."""
        measured = [f for f in self.reported if f.needs is ResponseText or f.name in self._names]
        return [(feature.log_key, feature.name) for feature in measured if feature.log_key is not None]


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise FeatureError(f"{name} is not a finite number: {value}")


def _registry_of(info: ValidationInfo) -> FeatureRegistry:
    return info.context if isinstance(info.context, FeatureRegistry) else _BUILTIN
