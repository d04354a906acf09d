"""Request bodies: bounded before they are read, bounded together, and parsed once, into one type."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers

from reward_client.wire import FieldError
from reward_service.api.edge_metrics import EdgeMetrics
from reward_service.errors import InvalidRequestError, NoRoomError, SlowBodyError, TooLargeError
from reward_service.settings import Settings

__all__ = ["Bodies", "Place", "declared_bytes", "parse"]

_MAX_PATH = 300
"""Characters of a field's path; a caller's key, which is part of it, may be megabytes."""

ModelT = TypeVar("ModelT", bound=BaseModel)

_MAX_REPORTED = 100
"""Wrong fields named in one answer; a batch of thousands may be wrong in the same way throughout."""


def declared_bytes(headers: Headers) -> int | None:
    """Bytes that the body is said to have; None when nothing is said, or no number."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 20 else None


class Bodies:
    """Reads bodies, and knows how many bytes of them are in memory."""

    def __init__(self, settings: Settings, metrics: EdgeMetrics) -> None:
        self.settings = settings
        self._metrics = metrics
        self._bytes = 0

    @contextmanager
    def place(self, request: Request) -> Iterator[Place]:
        """A place for the body of `request`, given back when the block ends."""
        place = Place(self, request)
        try:
            yield place
        finally:
            self.count(-place.bytes)

    def check(self, own: int, size: int) -> None:
        """Raise when a body of `size` has no room; `own` bytes of it are counted already. A lone one fits."""
        settings = self.settings
        if size > settings.max_body_bytes:
            raise TooLargeError(
                f"the body has more than {settings.max_body_bytes} bytes; send the items in several requests"
            )
        others = self._bytes - own
        if others and others + size > settings.max_waiting_bytes:
            raise NoRoomError(f"{others} bytes of bodies wait, at most {settings.max_waiting_bytes} are held", 1.0)

    def count(self, change: int) -> None:
        """So many bytes more are in memory."""
        self._bytes += change
        self._metrics.body_bytes(self._bytes)


class Place:
    """Room for one body: reserved before any of it is read, then filled."""

    def __init__(self, bodies: Bodies, request: Request) -> None:
        self.bytes = 0
        """What is counted for it."""
        self._bodies = bodies
        self._request = request

    async def reserve(self) -> None:
        """Reserve what the request says of its body.

        Raises:
            InvalidRequestError: it is compressed.
            TooLargeError: it is over `max_body_bytes`.
            NoRoomError: it does not fit beside the bodies that are there.
        """
        headers = self._request.headers
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise InvalidRequestError("compressed bodies are not read; send it without content-encoding")
        self._grow(declared_bytes(headers) or 0)

    async def read(self) -> bytes:
        """The whole body. Raises as `reserve`, or SlowBodyError."""
        limit_s = self._bodies.settings.body_timeout_s
        body = bytearray()
        try:
            async with asyncio.timeout(limit_s):
                async for chunk in self._request.stream():
                    self._grow(len(body) + len(chunk))
                    body += chunk
        except TimeoutError as exc:
            raise SlowBodyError(f"the body did not arrive within {limit_s:g} s") from exc
        return bytes(body)

    def _grow(self, size: int) -> None:
        """Count `size` bytes for it, if that is more than before."""
        size = max(size, self.bytes)
        self._bodies.check(self.bytes, size)
        self._bodies.count(size - self.bytes)
        self.bytes = size


def parse(model: type[ModelT], body: bytes) -> ModelT:
    """`body` as a `model`. Raises InvalidRequestError that names each wrong item and field."""
    try:
        parsed = model.model_validate_json(body)
    except ValidationError as exc:
        problems = exc.errors(include_url=False, include_context=False, include_input=False)  # bounded by MAX_LIST
        errors = [_field_error(error["loc"], error["msg"]) for error in problems[:_MAX_REPORTED]]
        raise InvalidRequestError(f"{len(problems)} field(s) of the body are wrong", errors) from exc
    _refuse_repeated_keys(body)
    return parsed


def _field_error(location: tuple[int | str, ...], message: str) -> FieldError:
    """The first number in a location is the item's index; branches of a union are no part of the path."""
    item = next((part for part in location if isinstance(part, int)), None)
    path = ".".join(str(part) for part in location if not str(part).startswith(("list[", "str", "function-")))
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
