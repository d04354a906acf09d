"""Texts of a request, in the forms in which data sets and other software write them.

    Text         a string of valid Unicode
    ScalarText   or a number or truth value, which becomes its JSON text: 42 is "42", false is "false"
    Content      or a list of text parts, as chat APIs send it, which become one text
    Reference    a ScalarText, or a list of them, of which the best counts

`error_path` and `error_message` describe an error in any of them without the names of pydantic's branches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import ErrorDetails

MAX_REFERENCES = 1_000
"""Maximum references of an item, checked while parsing; `max_references` of the service is lower."""


def _is_unicode(text: str) -> str:
    """Reject unpaired surrogates, which tokenizers cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError("contains an unpaired surrogate, which is not valid Unicode text") from exc
    return text


def _scalar_text(value: object) -> object:
    """The JSON text of a number or truth value; any other value as it is."""
    if not isinstance(value, (int, float)):
        return value
    if not math.isfinite(value):
        raise ValueError(f"must be text or a finite number, not {value}")
    return json.dumps(value)


Text = Annotated[str, AfterValidator(_is_unicode)]
"""Text of a prompt or a response."""
ScalarText = Annotated[Text, BeforeValidator(_scalar_text, json_schema_input_type=str | float | bool)]
"""Text, or a number or truth value as its text."""


# Content of a message -----------------------------------------------------------------------------------------


class TextPart(BaseModel):
    """A part of a message's content; other keys are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: Literal["text", "input_text", "output_text"]
    """Kind of part; others, such as images, are an error."""
    text: str
    """Its text."""


_PART_TYPES = ("text", "input_text", "output_text")


def _content_text(value: object) -> object:
    """The texts of a list of parts, joined by line feeds; any other value as it is."""
    if isinstance(value, (list, tuple)):
        return "\n".join(_part_text(number, part) for number, part in enumerate(value))
    if not isinstance(value, str):
        raise ValueError("must be text or a list of text parts")  # noqa: TRY004 - becomes a ValidationError
    return value


def _part_text(number: int, part: object) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise ValueError(f"part {number} is no object with a type, as {{'type': 'text', 'text': …}}")  # noqa: TRY004
    if kind not in _PART_TYPES:
        raise ValueError(f"part {number} has the type {kind[:40]!r}; only text can be scored")
    if not isinstance(part.get("text"), str):
        raise ValueError(f"part {number} has no text")  # noqa: TRY004
    return str(part["text"])


Content = Annotated[Text, BeforeValidator(_content_text, json_schema_input_type=str | list[TextPart])]
"""Text, or a list of text parts as the line feed separated text of the parts."""


# References ---------------------------------------------------------------------------------------------------

_TEXT, _LIST = "(text)", "(list)"


def _kind_of_reference(value: object) -> str | None:
    if isinstance(value, (list, tuple)):
        return _LIST
    return _TEXT if isinstance(value, (str, int, float)) else None


Reference = Annotated[
    Annotated[ScalarText, Tag(_TEXT)]
    | Annotated[list[ScalarText | None], Field(max_length=MAX_REFERENCES, fail_fast=True), Tag(_LIST)],
    Discriminator(
        _kind_of_reference,
        custom_error_type="reference_type",
        custom_error_message="must be text, a number, or a list of them",
    ),
]
"""One reference, or several of which the best counts. Null and blank ones do not count."""


def usable_references(reference: str | list[str | None] | None) -> list[tuple[int, str]]:
    """(index, text) of the references that are not blank, in order; a single one has index 0."""
    texts = reference if isinstance(reference, list) else [reference]
    return [(index, text) for index, text in enumerate(texts) if text and text.strip()]


# Errors -------------------------------------------------------------------------------------------------------

_BRANCHES = ("(", "list[", "function-")


def error_path(error: ErrorDetails) -> tuple[int | str, ...]:
    """Where the error is, without the branches of unions. An unknown field keeps its name."""
    location = error["loc"]
    ours = len(location) - (error["type"] == "extra_forbidden")
    named = (part for part in location[:ours] if part != "str" and not str(part).startswith(_BRANCHES))
    return (*named, *location[ours:])


def error_message(error: ErrorDetails) -> str:
    """What is wrong, without pydantic's prefix."""
    return error["msg"].removeprefix("Value error, ")
