"""A body made one of our types, once, or an answer that names each wrong item and field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from reward_client.wire import FieldError
from reward_service.errors import InvalidRequestError

__all__ = ["parse"]

_MAX_PATH = 300
"""Characters of a field's path; a caller's key, which is part of it, may be megabytes."""
_MAX_REPORTED = 100
"""Wrong fields named in one answer; a batch of thousands may be wrong in the same way throughout."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def parse(model: type[ModelT], body: bytes) -> ModelT:
    """`body` as a `model`. Raises InvalidRequestError that names each wrong item and field."""
    try:
        parsed = model.model_validate_json(body)
    except ValidationError as exc:
        problems = exc.errors(include_url=False, include_context=False, include_input=False)  # bounded by MAX_LIST
        errors = [_field_error(_location(error), error["msg"]) for error in problems[:_MAX_REPORTED]]
        raise InvalidRequestError(f"{len(problems)} field(s) of the body are wrong", errors) from exc
    _refuse_repeated_keys(body)
    return parsed


def _location(error: ErrorDetails) -> tuple[int | str, ...]:
    """Where it is, without the branches of unions. A field that nobody knows keeps its name, whatever that is."""
    location = error["loc"]
    ours = len(location) - (error["type"] == "extra_forbidden")
    branches = ("list[", "str", "function-")
    return (*(part for part in location[:ours] if not str(part).startswith(branches)), *location[ours:])


def _field_error(location: tuple[int | str, ...], message: str) -> FieldError:
    """The first number in a location is the item's index."""
    item = next((part for part in location if isinstance(part, int)), None)
    path = ".".join(map(str, location))
    return FieldError(item=item, field=path[:_MAX_PATH] or "body", message=message)


# A key that stands twice ---------------------------------------------------------------------------------------


class _RepeatedKeyError(Exception):
    pass


def _refuse_repeated_keys(body: bytes) -> None:
    """Two values for one field: one of them would be dropped unseen. `body` is good JSON otherwise."""
    try:
        json.loads(body, object_pairs_hook=_plain)
    except ValueError:  # an integer longer than Python reads: no field of ours has room for it
        return
    except _RepeatedKeyError:
        document = json.loads(body, object_pairs_hook=_Pairs)
        errors = [_field_error(where, "stands twice in its object") for where in _repeated(document, ())]
        raise InvalidRequestError("a key stands twice in an object of the body", errors[:_MAX_REPORTED]) from None


def _plain(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) != len({key for key, _ in pairs}):
        raise _RepeatedKeyError


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with all of its keys."""


def _repeated(value: Any, path: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    if isinstance(value, _Pairs):
        yield from ((*path, key) for key, times in Counter(key for key, _ in value).items() if times > 1)
        for key, child in value:
            yield from _repeated(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _repeated(child, (*path, index))
