"""The items of one request, with everything that decides how they are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reward_client.wire import OnItemError
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
    """The work of one request."""

    entries: Sequence[ScorableItem | InvalidItem]
    """In the caller's order."""
    recipe: Recipe
    gold: bool = False
    """Whether gold scores are requested beside the rewards."""
    on_item_error: OnItemError = "fail"
    path: Callable[[int, str], str] = _item_path
    """Path of a field of item i in the caller's protocol, for errors."""
    run: str | None = None
    """Training run that the rewards belong to."""
    step: int | None = None
    """Optimizer step of that run."""

    @property
    def wants_gold(self) -> bool:
        """Whether the gold model has to score: requested, or part of the reward."""
        return self.gold or self.recipe.needs_gold
