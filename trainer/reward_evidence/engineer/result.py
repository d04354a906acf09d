"""The result of `glassbox engineer` as data: engineer.json. Its fields are those of the page and the summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reward_client.wire import QueryType
from reward_evidence.engineer.findings import Curve, Disagreement, FeatureFinding, Point
from reward_evidence.statistics.monotonicity import Estimate

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """Held-out figures of the fitted recipe, and of other rewards on the same responses, by name."""

    accuracy: Mapping[str, Estimate]
    """Share of pairs ranked as gold does, ties half; mean over prompts."""
    correlation: Mapping[str, Estimate]
    """Spearman's correlation with gold within a prompt; mean over prompts."""
    accuracy_gain: Mapping[str, Estimate]
    """Fitted recipe minus the other reward, paired by prompt."""
    correlation_gain: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class TypeResult:
    """One query type."""

    n_rows: int
    n_prompts: int
    """With responses that gold ranks."""
    formula: str
    factors: Sequence[Any]
    """As in the recipe."""
    not_fitted: str | None = None
    """Why the factors are those of the base recipe; the fields below are then empty."""
    comparison: Comparison | None = None
    features: Sequence[FeatureFinding] = ()
    fold_formulas: Sequence[str] = ()
    accuracy_by_size: Sequence[float] = ()
    curves: Sequence[Curve] = ()
    calibration: Sequence[Point] = ()
    disagreements: Sequence[Disagreement] = ()


@dataclass(frozen=True, slots=True)
class ServiceCheck:
    """Rewards that the service computed with the recipe, beside those of the fit."""

    n: int
    largest_difference: float
    """Relative to the reward, or absolute below 1."""
    recipe_hash: str
    n_several_references: int
    """Rows left out: which of several references counts depends on the recipe."""


@dataclass(frozen=True, slots=True)
class ProbeKind:
    """A kind of gamed or wrong response that the recipe, or gold, does not rank below good answers."""

    name: str
    accuracy: float | None
    gold_accuracy: float | None
    pairs: int
    to_blame: str | None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The probe of the recipe (`glassbox probe`)."""

    accuracy: float | None
    gold_accuracy: float | None
    n_kinds: int
    n_pairs: int
    failing: Sequence[ProbeKind]
    """Kinds in which the worse response wins at least half of the pairs."""
    gold_failing: Sequence[ProbeKind]


@dataclass(frozen=True, slots=True)
class Engineered:
    """Everything."""

    name: str
    created_at: str
    settings: Mapping[str, Any]
    features: Sequence[str]
    """Those that could be chosen."""
    gold: str
    """Where gold scores come from."""
    n_rows: int
    n_merged: int
    base: str
    types: Mapping[QueryType, TypeResult]
    overall: Comparison
    service: ServiceCheck
    probe: ProbeResult | None
    warnings: Sequence[str]
    notices: Sequence[str]
    method: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def json(self) -> str:
        """The text of engineer.json."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
