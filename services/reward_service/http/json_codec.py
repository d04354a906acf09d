"""JSON bodies of requests and replies, parsed and serialised in steps, so that other work can run between them.

    small body ─▶ pydantic parses it at once ─▶ model
                  └─ anything wrong ─▶ as a large body, for the errors
    large body ─▶ each element of a list is decoded and validated in a step ─▶ model
                  └─ anything wrong ─▶ InvalidRequestError or TooLargeError, which names item and field

Decoding tens of megabytes in one call holds the interpreter's lock for a tenth of a second, which stops the event
loop even if another thread does it. Reading stops at a hundred errors, so the cost of a wrong body is that of its
first errors.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from mmap import mmap
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from reward_client.wire import FieldError, ScoreReply, error_message, error_path
from reward_client.wire.replies import GOLDS
from reward_service.batching import Steps, complete
from reward_service.errors import MAX_ERRORS, InvalidRequestError, TooLargeError
from reward_service.http.json_reader import JsonReader, Path, RefusedValueError, mistakes
from reward_service.settings import Settings

_AT_ONCE_BYTES = 64 * 1024
"""Bytes of a body that is parsed in one call, however wrong it is."""
_MAX_EXPLAINED = 1_000
"""Errors of one value that pydantic explains; a model with more in one value gets one error for all of them."""
_REPLY_ELEMENTS = 256
"""Elements of a list that are serialised in one step."""

_MESSAGES = {
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "list_type": "Input should be a valid array",
}
"""Pydantic's messages for JSON, where those for decoded values name types of Python."""
_WRONG = object()

ModelT = TypeVar("ModelT", bound=BaseModel)
Body = bytes | bytearray | mmap


def parse(model: type[ModelT], body: Body, settings: Settings) -> ModelT:
    """`body` as a `model`. Raises InvalidRequestError or TooLargeError that names each wrong item and field."""
    return complete(parse_steps(model, body, settings))


def parse_steps(model: type[ModelT], body: Body, settings: Settings) -> Steps[ModelT]:
    """As `parse`, with a yield between two steps; the model is the generator's return value."""
    if len(body) <= _AT_ONCE_BYTES:
        content = body[:] if isinstance(body, mmap) else body
        try:
            parsed = model.model_validate_json(content)
            json.loads(content, object_pairs_hook=_key_check(settings.max_object_keys))
        except (ValueError, RecursionError):
            pass  # explained below
        else:
            return parsed
    result: ModelT = yield from _Parser(model, body, settings).steps()
    return result


def dump_steps(reply: BaseModel) -> Steps[bytes]:
    """What `reply.model_dump_json()` returns, for a model without aliases and custom serializers.

    A ScoreReply without several gold models has no `golds`.
    """
    if isinstance(reply, RootModel):
        return (yield from _value_steps(reply.root))
    left_out = GOLDS if isinstance(reply, ScoreReply) and not reply.models.golds else None
    fields = []
    for name, value in reply:
        fields.append(to_json(name) + b":" + (yield from _value_steps(value, left_out)))
    return b"{" + b",".join(fields) + b"}"


def _value_steps(value: Any, left_out: set[str] | None = None) -> Steps[bytes]:
    """JSON of `value`, where it, or each element of a list, is without the fields `left_out`."""
    if not isinstance(value, list):
        return to_json(value, exclude=left_out)
    of_each: Any = {"__all__": left_out} if left_out else None
    if len(value) <= _REPLY_ELEMENTS:
        return to_json(value, exclude=of_each)
    parts = []
    for start in range(0, len(value), _REPLY_ELEMENTS):
        parts.append(to_json(value[start : start + _REPLY_ELEMENTS], exclude=of_each)[1:-1])
        yield
    return b"[" + b",".join(parts) + b"]"


@lru_cache
def _key_check(max_keys: int) -> Any:
    def check(pairs: list[tuple[str, Any]]) -> None:
        if len(pairs) > max_keys or len(pairs) != len({key for key, _ in pairs}):
            raise ValueError("an object has too many keys, or one of them twice")

    return check


@lru_cache
def _elements(model: type[BaseModel]) -> dict[str, TypeAdapter[Any]]:
    """Validators of the elements of the model's lists, by field."""
    types = {name: _element_type(field.annotation) for name, field in model.model_fields.items()}
    return {name: TypeAdapter(kind) for name, kind in types.items() if kind is not None}


def _element_type(annotation: Any) -> Any:
    arguments = get_args(annotation)
    if get_origin(annotation) is list:
        return arguments[0]
    inner = arguments[:1] if get_origin(annotation) is Annotated else arguments
    return next((kind for part in inner if (kind := _element_type(part)) is not None), None)


class _EnoughError(Exception):
    """No more errors are needed."""


class _Parser:
    """One body being parsed; collects the errors that it finds."""

    def __init__(self, model: type[BaseModel], body: Body, settings: Settings) -> None:
        self._model = model
        self._body = body
        self._settings = settings
        self._errors: list[FieldError] = []
        self._wrong: set[int | str] = set()
        """Fields of the body with an error."""
        self._too_large = False

    def steps(self) -> Steps[Any]:
        """The model. Raises InvalidRequestError or TooLargeError."""
        try:
            fields = yield from self._fields()
            lists = {name: fields[name] for name in _elements(self._model) if isinstance(fields.get(name), list)}
            firsts = {name: elements[:1] for name, elements in lists.items()}  # the others are validated already
            parsed = self._validated(self._model.model_validate, fields | firsts, ())
            if not self._errors:
                return parsed.model_copy(update=lists)
        except RefusedValueError as exc:
            self._too_large |= exc.too_large
            self._errors.append(_field_error(exc.path, str(exc)))
        except _EnoughError:
            pass
        found = f"at least {MAX_ERRORS}" if len(self._errors) >= MAX_ERRORS else len(self._errors)
        kind = TooLargeError if self._too_large else InvalidRequestError
        raise kind(f"{found} field(s) of the body are wrong", self._errors)

    def _fields(self) -> Steps[dict[str, Any]]:
        """The body's fields, with lists of validated elements. Wrong values are reported, and left out."""
        reader = JsonReader(self._body, self._settings)
        if not reader.next_is("{"):
            raise RefusedValueError((), "is not a JSON object")
        fields: dict[str, Any] = {}
        for key in reader.keys(()):
            yield
            if key in fields:
                self._report((key,), "is repeated in its object")
            elements = _elements(self._model).get(key)
            fields[key] = []
            if not reader.next_is("["):
                fields[key] = yield from self._value(reader, (key,))
                continue
            for index in reader.indexes((key,)):
                value = yield from self._value(reader, (key, index))
                if value is not _WRONG and elements is not None:
                    value = self._validated(elements.validate_python, value, (key, index))
                if value is not _WRONG:
                    fields[key].append(value)
                yield
        reader.expect_end()
        return fields

    def _value(self, reader: JsonReader, path: Path) -> Steps[Any]:
        value = yield from reader.value(path)
        if not reader.suspicions:
            return value
        reader.suspicions.clear()
        n_errors = len(self._errors)
        for where, message in mistakes(value, path, self._settings.max_object_keys):
            self._report(where, message)
        return value if len(self._errors) == n_errors else _WRONG

    def _validated(self, validate: Callable[[Any], Any], value: Any, path: Path) -> Any:
        try:
            return validate(value)
        except ValidationError as exc:
            if exc.error_count() > _MAX_EXPLAINED:
                self._report(path, f"has {exc.error_count()} errors")
                return _WRONG
            for error in exc.errors(include_url=False, include_context=False, include_input=False):
                location = (*path, *error_path(error))
                self._too_large |= error["type"] == "too_long"
                if path or location[:1] == () or location[0] not in self._wrong:
                    self._report(location, _MESSAGES.get(error["type"]) or error_message(error))
        return _WRONG

    def _report(self, path: Path, message: str) -> None:
        self._errors.append(_field_error(path, message))
        self._wrong.update(path[:1])
        if len(self._errors) >= MAX_ERRORS:
            raise _EnoughError


def _field_error(location: Path, message: str) -> FieldError:
    """The index of an item follows the name of the list that it is in."""
    item = next((part for part in location[1:2] if isinstance(part, int)), None)
    return FieldError(item=item, field=".".join(map(str, location)) or "body", message=message)
