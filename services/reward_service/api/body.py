"""Request bodies: bounded before they are read, and parsed once, into one type."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from reward_client.wire import FieldError
from reward_service.errors import InvalidRequestError, TooLargeError

__all__ = ["parse", "read_body"]

ModelT = TypeVar("ModelT", bound=BaseModel)

_MAX_REPORTED = 100
"""Wrong fields named in one answer; a batch of thousands may be wrong in the same way throughout."""


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises TooLargeError as soon as it is known to exceed `max_bytes`."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise InvalidRequestError("compressed bodies are not read; send it without content-encoding")
    declared = request.headers.get("content-length", "0")
    too_large = TooLargeError(f"the body has more than {max_bytes} bytes; send the items in several requests")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def parse(model: type[ModelT], body: bytes) -> ModelT:
    """`body` as a `model`. Raises InvalidRequestError that names each wrong item and field."""
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        problems = exc.errors(include_url=False, include_context=False, include_input=False)  # bounded by MAX_LIST
        errors = [_field_error(error["loc"], error["msg"]) for error in problems[:_MAX_REPORTED]]
        raise InvalidRequestError(f"{len(problems)} field(s) of the body are wrong", errors) from exc


def _field_error(location: tuple[int | str, ...], message: str) -> FieldError:
    """The first number in a location is the item's index; branches of a union are no part of the path."""
    item = next((part for part in location if isinstance(part, int)), None)
    path = ".".join(str(part) for part in location if not str(part).startswith(("list[", "str", "function-")))
    return FieldError(item=item, field=path or "body", message=message)
