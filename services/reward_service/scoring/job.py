"""One request's items with everything that decides how they are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reward_client.wire import (
    OnItemError,
)
from reward_service.batching import ModelWorker
from reward_service.features.recipe import Recipe
from reward_service.models.protocols import GoldModel, Tokens
from reward_service.scoring.validation import InvalidItem, ScorableItem

__all__ = ["GoldWorker", "Job"]

GoldWorker = ModelWorker[GoldModel, Tokens, float]


def _item_path(index: int, name: str) -> str:
    return f"items.{index}.{name}"


@dataclass(frozen=True, slots=True)
class Job:
    """What one request wants scored."""

    entries: Sequence[ScorableItem | InvalidItem]
    """In the caller's order; what could not become a candidate is its own error."""
    recipe: Recipe
    gold: bool = False
    """Whether the caller wants gold scores beside the rewards."""
    on_item_error: OnItemError = "fail"
    path: Callable[[int, str], str] = _item_path
    """How the caller's protocol calls a field of item i, for errors."""

    @property
    def wants_gold(self) -> bool:
        """Whether the gold model has to score: asked for, or part of the reward."""
        return self.gold or self.recipe.needs_gold
