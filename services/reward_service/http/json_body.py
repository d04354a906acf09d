"""JSON bodies: parsed into a request model, or an error that names each wrong item and field.

    small body ─▶ parse_at_once ─▶ model, or InvalidRequestError with pydantic's own messages
    large body ─▶ decode, element by element ─▶ model ─▶ parsed
                  └─ anything wrong ─▶ parse_at_once, for the messages

Decoding tens of megabytes in one call holds the interpreter's lock for a tenth of a second, which stops the event
loop even if another thread does it. Between two elements other threads can run.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Iterator
from mmap import mmap
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from reward_client.wire import MAX_LIST, FieldError
from reward_service.errors import InvalidRequestError

__all__ = ["parse"]

_MAX_PATH = 300
"""Characters of a field's path; a caller's key, which is part of it, may have megabytes."""
_MAX_REPORTED = 100
"""Wrong fields named in one response; thousands of items may have the same error."""
_MAX_DEPTH = 100
"""Levels of nesting that are decoded here; pydantic decides about deeper ones, and allows about 200."""
_PIECE_BYTES = 256 * 1024
"""Bytes of UTF-8 that are decoded in one call."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def parse(model: type[ModelT], body: bytes | bytearray | mmap) -> ModelT:
    """`body` as a `model`. Raises InvalidRequestError that names each wrong item and field."""
    if len(body) > _PIECE_BYTES:
        try:
            return model.model_validate(_decode(body))
        except (ValueError, RecursionError):  # pydantic's ValidationError is a ValueError too
            pass  # the other parser explains it
    return _parse_at_once(model, body[:] if isinstance(body, mmap) else body)


# Large bodies -------------------------------------------------------------------------------------------------


class _RepeatedKeyError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _RepeatedKeyError
    return fields


_raw_decode = json.JSONDecoder(object_pairs_hook=_object).raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=[^ \t\n\r])")


def _decode(body: bytes | bytearray | mmap) -> Any:
    """The object in `body`. Raises ValueError or RecursionError for anything that is not plain JSON."""
    reader = _Reader(body)
    reader.expect("{")
    pairs: list[tuple[str, Any]] = []
    if reader.next_is("}"):
        reader.expect("}")
    else:
        while True:
            key = reader.value()
            if not isinstance(key, str):
                raise ValueError("a key is not a string")  # noqa: TRY004 (not the type of an argument)
            reader.expect(":")
            pairs.append((key, reader.array() if reader.next_is("[") else reader.value()))
            if not reader.comma_before("}"):
                break
    reader.expect_end()
    return _object(pairs)


class _Reader:
    """Reads JSON values from UTF-8, of which it decodes a piece at a time."""

    def __init__(self, body: bytes | bytearray | mmap) -> None:
        self._body = memoryview(body)
        self._decoder = getincrementaldecoder("utf-8")()
        self._n_decoded = 0
        self._text = ""
        self._position = 0
        self._extend()

    def value(self) -> Any:
        """The value at the position, decoded in one call."""
        while True:
            try:
                value, end = _raw_decode(self._text, self._position)
            except json.JSONDecodeError:
                if not self._extend():
                    raise
                continue
            if end < len(self._text) or not self._extend():  # a number may continue in the next piece
                break
        text, self._position = self._text[self._position : end], end
        if "\\ud" in text or "\\uD" in text:
            pydantic_core.from_json(text)  # refuses half of a surrogate pair, which Python accepts
        if isinstance(value, (dict, list)):
            _check_depth(value, _MAX_DEPTH)
        return value

    def array(self) -> list[Any]:
        """The array at the position, with a call for each element."""
        self.expect("[")
        elements: list[Any] = []
        if self.next_is("]"):
            self.expect("]")
            return elements
        while True:
            elements.append(self.value())
            if len(elements) > MAX_LIST:
                raise ValueError("too many elements")
            if not self.comma_before("]"):
                return elements

    def comma_before(self, closing: str) -> bool:
        """Skip a comma (True) or `closing` (False)."""
        if comma := _COMMA.match(self._text, self._position):
            self._position = comma.end()
            return True
        if self.next_is(closing):
            self._position += 1
            return False
        self.expect(",")
        return True

    def expect(self, character: str) -> None:
        """Skip `character` and the space around it."""
        if not self.next_is(character):
            raise ValueError(f"{character} is missing")
        self._position += 1
        self._skip_space()

    def expect_end(self) -> None:
        """Raise ValueError if more than space follows."""
        self._skip_space()
        if self._position < len(self._text):
            raise ValueError("text after the object")

    def next_is(self, character: str) -> bool:
        """Whether `character` comes next, after space."""
        self._skip_space()
        return self._text.startswith(character, self._position)

    def _skip_space(self) -> None:
        while space := _SPACE.match(self._text, self._position):
            self._position = space.end()
            if self._position < len(self._text) or not self._extend():
                return

    def _extend(self) -> bool:
        """Decode the next piece, at least as long as the unread rest; False at the end."""
        if self._n_decoded == len(self._body):
            return False
        rest = self._text[self._position :]
        end = min(self._n_decoded + max(_PIECE_BYTES, len(rest)), len(self._body))
        piece = self._decoder.decode(self._body[self._n_decoded : end], final=end == len(self._body))
        self._text, self._position, self._n_decoded = rest + piece, 0, end
        return True


def _check_depth(value: Any, levels: int) -> None:
    """Raise ValueError if `value` has more than `levels` nested arrays and objects."""
    if not levels:
        raise ValueError("nested too deeply")
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, (dict, list)):
            _check_depth(child, levels - 1)


# Small bodies, and errors -------------------------------------------------------------------------------------


def _parse_at_once(model: type[ModelT], body: bytes | bytearray) -> ModelT:
    try:
        parsed = model.model_validate_json(body)
    except ValidationError as exc:
        problems = exc.errors(include_url=False, include_context=False, include_input=False)  # bounded by MAX_LIST
        errors = [_field_error(_location(error), error["msg"]) for error in problems[:_MAX_REPORTED]]
        raise InvalidRequestError(f"{len(problems)} field(s) of the body are wrong", errors) from exc
    _refuse_repeated_keys(body)
    return parsed


def _refuse_repeated_keys(body: bytes | bytearray) -> None:
    """Repeated keys are an error, because one of the values would be ignored. `body` is valid JSON otherwise."""
    try:
        json.loads(body, object_pairs_hook=_check_keys)
    except _RepeatedKeyError:
        document = json.loads(body, object_pairs_hook=_Pairs)
        errors = [_field_error(where, "is repeated in its object") for where in _repeated(document, ())]
        raise InvalidRequestError("a key is repeated in an object of the body", errors[:_MAX_REPORTED]) from None
    except ValueError:  # an integer with more digits than Python converts, which no field accepts
        return


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) != len({key for key, _ in pairs}):
        raise _RepeatedKeyError


def _location(error: ErrorDetails) -> tuple[int | str, ...]:
    """The path of an error, without the branches of unions. An unknown field keeps its name."""
    location = error["loc"]
    ours = len(location) - (error["type"] == "extra_forbidden")
    branches = ("list[", "str", "function-")
    return (*(part for part in location[:ours] if not str(part).startswith(branches)), *location[ours:])


def _field_error(location: tuple[int | str, ...], message: str) -> FieldError:
    """The first number in a location is the item's index."""
    item = next((part for part in location if isinstance(part, int)), None)
    path = ".".join(map(str, location))
    return FieldError(item=item, field=path[:_MAX_PATH] or "body", message=message)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all of its keys."""


def _repeated(value: Any, path: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    if isinstance(value, _Pairs):
        yield from ((*path, key) for key, times in Counter(key for key, _ in value).items() if times > 1)
        for key, child in value:
            yield from _repeated(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _repeated(child, (*path, index))
