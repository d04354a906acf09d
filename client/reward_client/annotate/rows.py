"""Rows of a prompt file, and what is written for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from reward_client.rows import FileError, checked_rows, numbered_rows, row_unit
from reward_client.wire import AnyQueryType, ChatMessage, QueryType, Reference, Text, usable_references

LabelSource = Literal["given", "classifier", "endpoint"]

TYPE, SOURCE, CONFIDENCE, REVIEW = "query_type", "query_type_by", "query_type_confidence", "query_type_review"
"""Fields that are written."""


class _Fields(BaseModel):
    """The fields that are read; others are copied."""

    model_config = ConfigDict(extra="ignore")

    prompt: Text | list[ChatMessage]
    reference: Reference | None = None
    query_type: AnyQueryType | None = None


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One row of the input."""

    number: int
    fields: Mapping[str, Any]
    prompt: str
    """The user's text; of a conversation, the last message of the user."""
    label: QueryType | None
    """That the row has already."""
    has_reference: bool


@dataclass(frozen=True, slots=True)
class Label:
    """A query type, or the error why it is missing."""

    query_type: QueryType | None
    source: LabelSource
    confidence: float | None = None
    """Of the classifier, from 0.5 to 1."""
    error: str | None = None


def read_prompts(source: Path, prompt_field: str, limit: int | None) -> list[PromptRow]:
    """The rows of a file. Raises FileError that names all wrong ones."""
    numbered = islice(numbered_rows(source), limit)
    make = partial(_row, prompt_field=prompt_field)
    rows = checked_rows(str(source), numbered, make, unit=row_unit(source))
    if not rows:
        raise FileError(f"{source} has no rows")
    return rows


def _row(fields: dict[str, Any], number: int, *, prompt_field: str) -> PromptRow:
    if prompt_field not in fields:
        raise ValueError(f"{prompt_field}: the field is missing; --prompt-field names another one")
    read = _Fields.model_validate(fields | {"prompt": fields[prompt_field]})
    prompt = read.prompt if isinstance(read.prompt, str) else _last_of_user(read.prompt)
    if not any(c.isalnum() for c in prompt):
        raise ValueError(f"{prompt_field}: has no text of a user")
    return PromptRow(number, fields, prompt, read.query_type, bool(usable_references(read.reference)))


def _last_of_user(messages: list[ChatMessage]) -> str:
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


def written(row: PromptRow, label: Label, min_confidence: float) -> dict[str, Any]:
    """The row with its annotation. Below `min_confidence` it has no query type, and is for a person to review."""
    if label.source == "given":
        given = dict(row.fields) | {TYPE: label.query_type}
        if str(row.fields.get(REVIEW)).lower() == "true":  # it was left to a person; in a .csv file it is text
            return given | {SOURCE: "given", CONFIDENCE: None, REVIEW: False}
        return given | {SOURCE: row.fields.get(SOURCE) or "given"}
    unsure = label.confidence is not None and label.confidence < min_confidence
    return dict(row.fields) | {
        TYPE: None if unsure or label.query_type is None else label.query_type.value,
        SOURCE: label.source,
        CONFIDENCE: None if label.confidence is None else round(label.confidence, 4),
        REVIEW: unsure or label.query_type is None,
    }
