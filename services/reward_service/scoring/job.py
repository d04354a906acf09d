"""The items of one request, with everything that decides how they are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from reward_client.wire import FieldError, OnItemError
from reward_service.batching import ModelWorker
from reward_service.errors import InvalidRequestError
from reward_service.features.recipe import Recipe
from reward_service.models.protocols import GoldModel, Tokens
from reward_service.scoring.validation import InvalidItem, ScorableItem

__all__ = ["GoldWorker", "Job", "reject_invalid_items"]

GoldWorker = ModelWorker[GoldModel, Tokens, float]


def _item_path(index: int, name: str) -> str:
    return f"items.{index}.{name}"


@dataclass(frozen=True, slots=True)
class Job:
    """The work of one request."""

    entries: Iterable[ScorableItem | InvalidItem]
    """In the caller's order. Those of an iterator are made in steps, between which other requests are served."""
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


def reject_invalid_items(job: Job, entries: Sequence[object]) -> None:
    """Raise InvalidRequestError for the InvalidItems among `entries`, unless they are to be reported."""
    bad = [(i, entry) for i, entry in enumerate(entries) if isinstance(entry, InvalidItem)]
    if bad and job.on_item_error == "fail":
        errors = [FieldError(item=i, id=e.id, field=job.path(i, e.field), message=e.message) for i, e in bad]
        raise InvalidRequestError(f"{len(bad)} of {len(entries)} items cannot be scored", errors)
