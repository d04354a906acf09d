"""A recipe is data: the factors that are multiplied into the reward, for each query type.

    open_ended    [length_incentive, query_relevance, repetition_penalty]          LI × QR × RP
    closed_ended  [max_length_incentive, reference_relevance, repetition_penalty]  (tokens / 100) × RAR × RP

A factor is a feature, or a feature with transforms (`factor_spec`). A feature with a range is mapped linearly,
range → [0, 1], and then bounded below by its floor, before the transforms. Both relevances always have a range
(`*_relevance_range`, `relevance_floor`); other features have one if `feature_ranges` and `feature_floors` set it.
Source: Kim & Seo (EMNLP 2024) (reward branching).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, model_validator

from reward_client.wire import AnyQueryType, QueryType
from reward_service.features.builtin import ALWAYS_REPORTED, GOLD
from reward_service.features.factor import Factor, check_finite
from reward_service.features.factor_spec import FactorSpec, registry_of
from reward_service.features.feature import (
    EMBEDDINGS,
    Feature,
    GoldScore,
    Range,
    RecipeOnly,
    ResponseText,
    Similarity,
)
from reward_service.features.registry import FeatureRegistry
from reward_service.features.text import DEFAULT_STOP_STRINGS, ReasoningPolicy, WordKind

_RELEVANCE = ("query_relevance", "reference_relevance")
_RANGE_FIELDS = (*(f"{name}_range" for name in _RELEVANCE), "reward_range")

PARAMETERS_BEFORE: Mapping[str, object] = {
    "feature_ranges": {},
    "feature_floors": {},
    "reasoning": "flag",
    "words": "wordpunct",
    "unreadable_relevance": "keep",
}
"""Parameters that were added later, with the values that leave a reward as it was before. A hash covers others."""


def _at_least_one(factors: tuple[FactorSpec, ...]) -> tuple[FactorSpec, ...]:
    if not factors:  # `min_length` would also report a single factor that is wrong
        raise ValueError("needs at least one factor")
    return factors


Factors = Annotated[tuple[FactorSpec, ...], AfterValidator(_at_least_one)]


class Recipe(BaseModel):
    """The complete definition of one reward: two recipes with the same `hash` give the same rewards.

    Validate with `context=FeatureRegistry` to allow features of plug-ins; the built-in ones are known without.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    description: str = ""
    open_ended: Factors
    """Factors multiplied for open-ended prompts."""
    closed_ended: Factors
    """Factors multiplied for closed-ended prompts."""
    similarity: Similarity = Similarity.COSINE
    query_relevance_range: Range = (0.0, 1.0)
    """Similarities of prompt and response that map to 0 and 1; linear, not clipped."""
    reference_relevance_range: Range = (0.0, 1.0)
    """Similarities of reference and response that map to 0 and 1."""
    relevance_floor: float | None = 0.0
    """Lower bound on a mapped relevance; null for no bound."""
    unreadable_relevance: Literal["lowest", "keep", "error"] = "lowest"
    """Relevance of a text that the encoder has no tokens for: the lowest value, the one computed, or an error."""
    feature_ranges: dict[str, Range] = {}
    """Values of other features that map to 0 and 1, by feature name; linear, not clipped."""
    feature_floors: dict[str, float] = {}
    """Lower bounds on other features, after the mapping, by feature name."""
    max_response_tokens: Annotated[int, Field(gt=0, le=1_000_000)] = 512
    """The policy's limit on new tokens: the scale of closed-ended rewards is a hundredth of it."""
    words: WordKind = "unicode"
    """What counts as a word: Unicode's word boundaries, or the paper's runs of letters or of punctuation."""
    reasoning: ReasoningPolicy = "drop"
    """Reasoning before the answer: not scored, scored as part of the response, or scored and flagged."""
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

    _registry: FeatureRegistry = PrivateAttr()

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
        self._registry = registry_of(info)
        for factor in self._all_factors:
            factor.check_sign()
        if self.reward_range is None:
            unbounded = [f.feature.name for f in self._all_factors if not all(map(math.isfinite, f.bounds))]
            if unbounded:
                raise ValueError(f"reward_range is needed, because {unbounded[0]} has no bounds in this recipe")
        low, high = self.bounds()
        if not math.isfinite(high - low):
            raise ValueError("reward_range is needed, because the product of the factors has no bounds")
        if not low < high:
            raise ValueError(f"every response would earn {low:g}: no factor depends on it")
        return self

    @cached_property
    def hash(self) -> str:
        """Content hash, 12 hex digits: covers everything that can change a reward, not the name."""
        content = self.model_dump(mode="json", exclude={"name", "description"})
        for name, before in PARAMETERS_BEFORE.items():
            if content[name] == before:
                del content[name]
        packages = {name: package for name in self._names if (package := self._registry.package(name))}
        if packages:
            content["feature_packages"] = packages
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def lowest(self, feature: Feature[Any]) -> float:
        """The value of a feature that cannot be read: the lower end of its range."""
        low, _ = self._ranges.get(feature.name, feature.bounds(self))
        return low if math.isfinite(low) else 0.0

    def factors(self, query_type: QueryType) -> tuple[Factor, ...]:
        """The factors multiplied for `query_type`."""
        return self._factors[query_type]

    @property
    def formula(self) -> dict[str, str]:
        """The product of each query type's factors, as people read it."""
        return {kind.value: " × ".join(f.formula for f in factors) for kind, factors in self._factors.items()}

    @cached_property
    def reported(self) -> tuple[Feature[Any], ...]:
        """The features that results list: those that every result lists, and the recipe's own.

        Constants are not measured, and the gold score has a separate field.
        """
        own = (self._registry[name] for name in self._registry if name in self._names)
        measured = (feature for feature in own if feature.needs is not RecipeOnly and feature is not GOLD)
        return tuple(dict.fromkeys([*ALWAYS_REPORTED, *measured]))

    @cached_property
    def needs_encoder(self) -> bool:
        """Whether a factor of either branch is computed from embeddings."""
        return any(issubclass(feature.needs, EMBEDDINGS) for feature in self._used)

    @cached_property
    def needs_gold(self) -> bool:
        """Whether a factor of either branch is the gold score."""
        return any(feature.needs is GoldScore for feature in self._used)

    def needs_prompt(self, query_type: QueryType) -> bool:
        """Whether a factor of `query_type`, or one that may replace it, depends on the prompt."""
        branch = self.open_ended if query_type is QueryType.OPEN_ENDED else self.closed_ended
        return any(self._registry[name].needs_prompt for spec in branch for name in spec.features)

    @cached_property
    def constants(self) -> dict[str, float]:
        """Values of the factors that depend on nothing but the recipe, by name. Raises FeatureError."""
        constants = {}
        for feature in self._used:
            if feature.needs is RecipeOnly and (value := feature.measure(RecipeOnly(self))[0]) is not None:
                check_finite(feature.name, value)
                constants[feature.name] = value
        return constants

    def logs(self, features: Mapping[str, float | None]) -> dict[str, float]:
        """Logged values of one item by log key; every item of a recipe has the same keys.

        Features may share a key: the first that applies to the item counts, or 0 when none does. Frameworks
        average these values, so a key without a value for some items has a second one, `KEY_measured`, which is 1
        or 0: the mean of `KEY` divided by that of `KEY_measured` is the mean over the items that have a value.
        """
        found = {key: value for key, name in reversed(self._logged) if (value := features.get(name)) is not None}
        values = {key: found.get(key, 0.0) for key, _ in self._logged}
        return values | {name: float(key in found) for key, name in self._measured_keys.items()}

    def with_overrides(self, overrides: Mapping[str, Any]) -> Recipe:
        """A copy with parameters replaced and validated again. Raises pydantic.ValidationError."""
        content = self.model_dump() | dict(overrides) | {"name": self.name}
        return Recipe.model_validate(content, context=self._registry)

    def combine(self, query_type: QueryType, values: Mapping[str, float | None]) -> float:
        """The reward: the product of the branch's factors. Raises FeatureError when a factor is not finite."""
        return math.prod([factor.applied(values)[1] for factor in self._factors[query_type]])

    def bounds(self) -> Range:
        """Interval that rewards lie in: given, or the hull of both branches' products."""
        if self.reward_range is not None:
            return self.reward_range
        branches = [_product(factor.bounds for factor in factors) for factors in self._factors.values()]
        return min(low for low, _ in branches), max(high for _, high in branches)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Features of both branches, each once."""
        return tuple(dict.fromkeys(name for spec in self.open_ended + self.closed_ended for name in spec.features))

    @cached_property
    def _used(self) -> tuple[Feature[Any], ...]:
        return tuple(self._registry[name] for name in self._names)

    @cached_property
    def _ranges(self) -> dict[str, Range]:
        relevance = {name: getattr(self, f"{name}_range") for name in _RELEVANCE}
        return relevance | self.feature_ranges

    @cached_property
    def _floors(self) -> dict[str, float | None]:
        return {**dict.fromkeys(_RELEVANCE, self.relevance_floor), **self.feature_floors}

    @cached_property
    def _factors(self) -> dict[QueryType, tuple[Factor, ...]]:
        branches = {QueryType.OPEN_ENDED: self.open_ended, QueryType.CLOSED_ENDED: self.closed_ended}
        return {kind: tuple(map(self._factor, specs)) for kind, specs in branches.items()}

    def _factor(self, spec: FactorSpec) -> Factor:
        feature, name = self._registry[spec.feature], spec.feature
        constant = self.constants.get(name)
        return Factor(
            feature=feature,
            spec=spec,
            feature_bounds=feature.bounds(self) if constant is None else (constant, constant),
            constant=constant,
            range=self._ranges.get(name),
            floor=self._floors.get(name),
            otherwise=self._factor(spec.otherwise) if spec.otherwise is not None else None,
        )

    @property
    def _all_factors(self) -> Iterator[Factor]:
        return (factor for factors in self._factors.values() for factor in factors)

    @cached_property
    def _logged(self) -> list[tuple[str, str]]:
        """(log key, name) of the features that are measured in some branch."""
        measured = [f for f in self.reported if f.needs is ResponseText or f.name in self._names]
        return [(feature.log_key, feature.name) for feature in measured if feature.log_key is not None]

    @cached_property
    def _measured_keys(self) -> dict[str, str]:
        """Log key → `KEY_measured`, for keys without a value for some items.

        A key has a value for every item if each branch has a factor whose features all have that key.
        """
        branches = [
            {keys[0] for f in factors if len(keys := list({o.feature.log_key for o in f.options})) == 1}
            for factors in self._factors.values()
        ]
        always = set.intersection(*branches) | {f.log_key for f in ALWAYS_REPORTED if f.needs is ResponseText}
        return {key: f"{key}_measured" for key, _ in self._logged if key not in always}


def _product(intervals: Iterator[Range]) -> Range:
    """The interval of products of one number of each of `intervals`."""
    low = high = 1.0
    for ends in intervals:
        corners = [x * y for x in (low, high) for y in ends]
        low, high = min(corners), max(corners)
    return low, high
