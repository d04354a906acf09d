"""A recipe is data: which features, combined how, for each query type. Every reward is a product of factors.

    open_ended    [length_incentive, query_relevance, repetition_penalty]        LI × QR × RP
    closed_ended  [max_length_incentive, reference_relevance, repetition_penalty]  (tokens / 100) × RAR × RP

A similarity enters a product after the linear map `*_relevance_range` → [0, 1] and the floor
`relevance_floor`, so that one shape holds for any encoder; the paper's own numbers are a recipe like any other.
Source: Kim & Seo (EMNLP 2024) (reward branching).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reward_client.wire import AnyQueryType, QueryType
from reward_service.features.builtin import WORDS_PER_UNIT, Similarity
from reward_service.features.text import DEFAULT_STOP_STRINGS

__all__ = ["Factor", "FeatureValues", "Recipe"]


class Factor(StrEnum):
    """What a product may be made of."""

    LENGTH_INCENTIVE = "length_incentive"
    REPETITION_PENALTY = "repetition_penalty"
    QUERY_RELEVANCE = "query_relevance"
    REFERENCE_RELEVANCE = "reference_relevance"
    MAX_LENGTH_INCENTIVE = "max_length_incentive"
    """Constant: the length incentive of an answer as long as allowed, which puts both query types on one scale."""
    GOLD = "gold"
    """The gold reward model's own score: the baseline that the paper compares with."""


FeatureValues = Mapping[Factor, float]
Range = tuple[float, float]


class Recipe(BaseModel):
    """One reward, completely: two recipes with the same `hash` give the same rewards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    description: str = ""
    open_ended: Annotated[tuple[Factor, ...], Field(min_length=1)]
    """Factors for open-ended prompts."""
    closed_ended: Annotated[tuple[Factor, ...], Field(min_length=1)]
    """Factors for closed-ended prompts."""
    similarity: Similarity = Similarity.COSINE
    query_relevance_range: Range = (0.0, 1.0)
    """Similarities of prompt and response that map to 0 and 1; linear, not clipped."""
    reference_relevance_range: Range = (0.0, 1.0)
    """The same for reference and response."""
    relevance_floor: float | None = 0.0
    """Lower bound on a mapped relevance; null for none."""
    max_response_tokens: Annotated[int, Field(gt=0, le=1_000_000)] = 512
    """The policy's limit on new tokens: the scale of closed-ended rewards is a hundredth of it."""
    stop_strings: tuple[Annotated[str, Field(min_length=1)], ...] = DEFAULT_STOP_STRINGS
    cut_response: bool = True
    """Whether length and repetition see the response cut at the first stop string."""
    relevance_sees_cut_response: bool = True
    """Whether relevance does too; the reference implementation lets it see the whole response."""
    empty_is_zero: bool = True
    """An empty response earns 0 without further arithmetic."""
    query_type_default: AnyQueryType | None = None
    """For items that have a reference and no query type."""
    reward_range: Range | None = None
    """Interval of rewards, when it cannot be derived from the factors (similarities without bounds)."""
    calibrated_for: str | None = None
    """Encoder whose similarities the ranges were measured on; null when any will do."""

    @model_validator(mode="after")
    def _ranges_must_ascend(self) -> Recipe:
        for field in ("query_relevance_range", "reference_relevance_range", "reward_range"):
            bounds: Range | None = getattr(self, field)
            if bounds is not None and not bounds[0] < bounds[1]:
                raise ValueError(f"{field} must ascend, got {list(bounds)}")
        return self

    @model_validator(mode="after")
    def _range_must_be_known(self) -> Recipe:
        """Trainers clip by it, and OpenRLHF's scores are made with it: better no recipe than a wrong range."""
        unbounded = self.needs_gold or (self.needs_encoder and self.similarity is Similarity.DOT)
        if self.reward_range is None and unbounded:
            raise ValueError("reward_range is needed with dot products or gold scores, which have no bounds")
        low, high = self.bounds()
        if not low < high:
            raise ValueError(f"every response would earn {low:g}: no factor depends on it")
        return self

    @property
    def hash(self) -> str:
        """Content hash, 12 hex digits: covers whatever can change a reward, not the name."""
        content = self.model_dump(mode="json", exclude={"name", "description"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def factors(self, query_type: QueryType) -> tuple[Factor, ...]:
        """The factors of the branch that `query_type` takes."""
        return self.open_ended if query_type is QueryType.OPEN_ENDED else self.closed_ended

    def uses(self, *factors: Factor) -> bool:
        """Whether either branch needs one of `factors`."""
        return any(factor in self.open_ended + self.closed_ended for factor in factors)

    @cached_property
    def needs_encoder(self) -> bool:
        """Whether relevance is part of either branch."""
        return self.uses(Factor.QUERY_RELEVANCE, Factor.REFERENCE_RELEVANCE)

    @property
    def needs_gold(self) -> bool:
        """Whether the gold score is part of either branch."""
        return self.uses(Factor.GOLD)

    def with_overrides(self, overrides: Mapping[str, Any]) -> Recipe:
        """A copy with parameters replaced and validated again. Raises pydantic.ValidationError."""
        return Recipe.model_validate(self.model_dump() | dict(overrides) | {"name": self.name})

    def combine(self, query_type: QueryType, values: FeatureValues) -> float:
        """The reward: the product of the branch's factors."""
        return math.prod(self._factor(factor, values) for factor in self.factors(query_type))

    def bounds(self) -> Range:
        """Interval that rewards lie in: given, or the hull of both branches' products."""
        if self.reward_range is not None:
            return self.reward_range
        branches = [self._branch_bounds(query_type) for query_type in QueryType]
        return min(low for low, _ in branches), max(high for _, high in branches)

    def _factor(self, factor: Factor, values: FeatureValues) -> float:
        match factor:
            case Factor.MAX_LENGTH_INCENTIVE:
                return self.max_response_tokens / WORDS_PER_UNIT
            case Factor.QUERY_RELEVANCE:
                return self._map(values[factor], self.query_relevance_range)
            case Factor.REFERENCE_RELEVANCE:
                return self._map(values[factor], self.reference_relevance_range)
            case _:
                return values[factor]

    def _map(self, value: float, bounds: Range) -> float:
        low, high = bounds
        mapped = (value - low) / (high - low)
        return mapped if self.relevance_floor is None else max(self.relevance_floor, mapped)

    def _branch_bounds(self, query_type: QueryType) -> Range:
        """Interval product; a word is about a token, so a response's words are bounded by its tokens."""
        longest = self.max_response_tokens / WORDS_PER_UNIT
        extremes: dict[Factor, Range] = {
            Factor.LENGTH_INCENTIVE: (0.0, longest),
            Factor.REPETITION_PENALTY: (0.0, 1.0),
            Factor.QUERY_RELEVANCE: (-1.0, 1.0),
            Factor.REFERENCE_RELEVANCE: (-1.0, 1.0),
            Factor.MAX_LENGTH_INCENTIVE: (longest, longest),
        }
        low = high = 1.0
        for factor in self.factors(query_type):
            ends = [self._factor(factor, {factor: end}) for end in extremes[factor]]
            corners = [x * y for x in (low, high) for y in ends]
            low, high = min(corners), max(corners)
        return low, high
