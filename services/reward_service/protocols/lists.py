"""Parallel lists: protocols that send one list per field instead of one object per item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reward_client.wire import FieldError
from reward_service.errors import InvalidRequestError, TooLargeError

__all__ = ["as_list", "check_count", "parallel", "texts"]


def as_list(value: list[Any] | Any) -> list[Any]:
    """`value`, or a list of it when it is a single value."""
    return value if isinstance(value, list) else [value]


def check_count(n: int, max_items: int, name: str = "samples") -> None:
    """Raise TooLargeError if a request has more than `max_items` samples."""
    if n > max_items:
        raise TooLargeError(f"{n} {name}, at most {max_items} fit one request")


def parallel(name: str, value: list[Any] | Any | None, n: int, reference: str) -> list[Any]:
    """The field `name` as a list of `n` values; None means that it was not sent.

    Raises:
        InvalidRequestError: it has another length than the field `reference`.
    """
    if value is None:
        return [None] * n
    values = as_list(value)
    if len(values) != n:
        message = f"has {len(values)} entries, {reference} has {n}"
        raise InvalidRequestError(f"{name} {message}", [FieldError(field=name, message=message)])
    return values


def texts(columns: Iterable[tuple[str, Sequence[Any]]]) -> Iterator[tuple[int, str, str]]:
    """(index, field, text) for every text in `columns`, as `check_lengths` needs them."""
    for name, values in columns:
        yield from ((i, f"{name}.{i}", value) for i, value in enumerate(values) if isinstance(value, str))
