"""Validation of items: each becomes a ScorableItem with a known query type, or an InvalidItem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reward_client.wire import ChatMessage, FieldError, Item, QueryType, QueryTypeSource
from reward_service.errors import TooLargeError
from reward_service.features.text import prompt_text

__all__ = ["InvalidItem", "ScorableItem", "check_lengths", "scorable_item"]


@dataclass(frozen=True, slots=True)
class ScorableItem:
    """One response to score, with all inputs of its reward."""

    messages: tuple[ChatMessage, ...]
    response: str
    reference: str | None
    query_type: QueryType
    query_type_source: QueryTypeSource
    id: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InvalidItem:
    """An item that cannot be scored, with the field that is wrong."""

    field: str
    message: str
    id: str | None = None


def scorable_item(
    item: Item, query_type_default: QueryType | None, flags: Sequence[str] = ()
) -> ScorableItem | InvalidItem:
    """Determine the query type of `item`, and check that it has the inputs of that branch of the reward.

    The item's own query type has priority. Without one, an item without a reference is open-ended, and an item
    with a reference gets `query_type_default`: a reference does not imply a query type, because every row of the
    published data has one and half of them are open-ended. A blank reference counts as missing, because data sets
    use "" for it.
    """
    reference = item.reference if item.reference and item.reference.strip() else None
    query_type, source = _query_type(item, reference, query_type_default)
    if query_type is None:
        message = "is needed when there is a reference: open_ended or closed_ended (or set query_type_default)"
        return InvalidItem("query_type", message, item.id)
    if query_type is QueryType.CLOSED_ENDED and reference is None:
        return InvalidItem("reference", "is needed for a closed_ended item", item.id)
    messages = _messages(item)
    if not prompt_text(messages):
        return InvalidItem("prompt", "has no user text", item.id)
    return ScorableItem(
        messages=messages,
        response=item.response,
        reference=reference,
        query_type=query_type,
        query_type_source=source,
        id=item.id,
        flags=tuple(flags),
    )


def check_lengths(texts: Iterable[tuple[int, str, str]], max_chars: int) -> None:
    """Raise TooLargeError naming every (item, field, text) longer than `max_chars` characters."""
    errors = [
        FieldError(item=item, field=field, message=f"has {len(text)} characters, at most {max_chars} are allowed")
        for item, field, text in texts
        if len(text) > max_chars
    ]
    if errors:
        raise TooLargeError(f"{len(errors)} text(s) are too long", errors)


def _query_type(
    item: Item, reference: str | None, default: QueryType | None
) -> tuple[QueryType | None, QueryTypeSource]:
    if item.query_type is not None:
        return item.query_type, "given"
    if reference is None:
        return QueryType.OPEN_ENDED, "default"
    return default, "default"


def _messages(item: Item) -> tuple[ChatMessage, ...]:
    if isinstance(item.prompt, str):
        return (ChatMessage(role="user", content=item.prompt),)
    return tuple(item.prompt)
