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
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from mmap import mmap
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from reward_client.wire import FieldError, ScoreReply, error_message, error_path
from reward_client.wire.replies import GOLDS
from reward_service.batching import Steps, complete
from reward_service.errors import MAX_ERRORS, InvalidRequestError, TooLargeError
from reward_service.http.json_reader import JsonReader, Path, RefusedValueError, has_good_keys, mistakes
from reward_service.settings import Settings

_AT_ONCE_BYTES = 64 * 1024
"""Bytes of a body that is parsed in one call, however wrong it is."""
_MAX_EXPLAINED = 1_000
"""Errors of one value that pydantic explains; a model with more in one value gets one error for all of them."""
_REPLY_ELEMENTS, _REPLY_CHARS = 256, 64 * 1024
"""Elements of a list, and characters of the texts among them, that are serialised in one step."""

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
            json.loads(content, object_pairs_hook=partial(_check_keys, settings))
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
        if isinstance(reply.root, BaseModel):
            return (yield from dump_steps(reply.root))
        return (yield from _value_steps(reply.root))
    left_out = GOLDS if isinstance(reply, ScoreReply) and not reply.models.golds else None
    fields = []
    for name, value in reply:
        fields.append(to_json(name) + b":" + (yield from _value_steps(value, left_out)))
    return b"{" + b",".join(fields) + b"}"


def _value_steps(value: Any, left_out: set[str] | None = None) -> Steps[bytes]:
    """JSON of `value`, where it, or each element of a list, is without the fields `left_out`."""
    if isinstance(value, dict) and (len(value) > _REPLY_ELEMENTS or _holds_many(value.values())):
        members = []
        for name, member in value.items():
            members.append(to_json(name) + b":" + (yield from _value_steps(member)))
            yield
        return b"{" + b",".join(members) + b"}"
    if isinstance(value, list) and (len(value) > _REPLY_ELEMENTS or _holds_many(value)):
        return (yield from _list_steps(value, left_out))
    of_each: Any = {"__all__": left_out} if left_out and isinstance(value, list) else left_out
    return to_json(value, exclude=of_each)


def _list_steps(values: list[Any], left_out: set[str] | None) -> Steps[bytes]:
    """JSON of `values`, in steps of a few elements; each list or object among them has its own steps."""
    of_each: Any = {"__all__": left_out} if left_out else None
    parts: list[bytes] = []
    start, n_chars = 0, 0
    for index, one in enumerate(values):
        n_chars += len(one) if isinstance(one, str) else 0
        own = isinstance(one, (dict, list))
        if start < index and (own or index - start >= _REPLY_ELEMENTS or n_chars > _REPLY_CHARS):
            parts.append(to_json(values[start:index], exclude=of_each)[1:-1])
            start, n_chars = index, 0
            yield
        if own:
            parts.append((yield from _value_steps(one)))
            start = index + 1
            yield
    if start < len(values):
        parts.append(to_json(values[start:], exclude=of_each)[1:-1])
    return b"[" + b",".join(parts) + b"]"


def _holds_many(members: Iterable[Any]) -> bool:
    """Whether some of a few members are lists or objects, or long texts: together they may be of any size."""
    n_chars = 0
    for one in members:
        n_chars += len(one) if isinstance(one, str) else 0
        if isinstance(one, (dict, list)) or n_chars > _REPLY_CHARS:
            return True
    return False


def _check_keys(limits: Settings, pairs: list[tuple[str, Any]]) -> None:
    if not has_good_keys(dict(pairs), len(pairs), limits):
        raise ValueError("an object has too many keys, a long one, or one of them twice")


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
        for where, message in mistakes(value, path, self._settings):
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
