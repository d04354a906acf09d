"""The fitted recipe: as a YAML file, and as overrides of the recipe that it was fitted with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from reward_client.wire import QueryType, RecipeInfo
from reward_evidence.engineer.finish import Terms

_DERIVED = {"reward_range": None, "calibrated_for": None}
"""Parameters of the base that its factors determined."""
_NOT_COPIED = (*_DERIVED, *(kind.value for kind in QueryType))


def factors_of(terms: Terms, missing: frozenset[str]) -> list[Any]:
    """The factors of a query type. A feature in `missing` does not apply to some row, and counts as 1 there."""
    return [term.spec(may_be_missing=term.shape.feature in missing) for term in terms]


def overrides_of(factors: Mapping[QueryType, Sequence[Any]]) -> dict[str, Any]:
    """What makes the recipe that was fitted with this one: `factors` has both query types."""
    changed: dict[str, Any] = {kind.value: list(found) for kind, found in factors.items()}
    return changed | dict(_DERIVED)


def recipe_yaml(description: str, base: RecipeInfo, factors: Mapping[QueryType, Sequence[Any]]) -> str:
    """The text of the file: the factors, a line each, and every parameter (JSON values are YAML)."""
    lines = [f"description: {_json(description)}"]
    for kind, found in factors.items():
        lines += [f"{kind.value}:", *(f"  - {_json(factor)}" for factor in found)]
    kept = {name: value for name, value in base.parameters.items() if name not in _NOT_COPIED}
    lines += [f"{name}: {_json(value)}" for name, value in kept.items()]
    return "\n".join(lines) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
