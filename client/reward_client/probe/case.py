"""A prompt with a good answer, the texts that generators use, and where both come from.

prompts.jsonl, or a user's file ──▶ cases_from_rows() ──▶ [Case]
passages.json, phrases.json     ──▶ passages(), phrases()     texts without content, written for this package
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from reward_client.rows import checked_rows, read_rows
from reward_client.wire import Item, QueryType, Text, usable_references

_BATTERY = files("reward_client.probe") / "battery"
EMBEDDED = "embedded battery"
"""Name of the embedded prompts in reports."""


class _Row(Item):
    """A line of a file of prompts."""

    model_config = ConfigDict(extra="ignore")

    worse: Mapping[str, Sequence[Text]] = Field(default_factory=dict)
    half: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt and a good answer to it."""

    item: Item
    """The good answer as an item of a request."""
    query_type: QueryType
    worse: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Worse answers written by hand, by kind."""
    half: str | None = None
    """`development` or `held_out`, for the embedded prompts."""

    @property
    def prompt(self) -> str:
        """The text of the prompt; of a conversation, its last message of a user."""
        if isinstance(self.item.prompt, str):
            return self.item.prompt
        turns = [message.content for message in self.item.prompt if message.role == "user"]
        return turns[-1] if turns else ""

    @property
    def response(self) -> str:
        """The good answer."""
        return self.item.response

    @property
    def reference(self) -> str | None:
        """The first reference of a prompt with a right answer; None for an open-ended prompt."""
        usable = usable_references(self.item.reference)
        return usable[0][1] if usable and self.query_type is QueryType.CLOSED_ENDED else None


def embedded_cases(half: str | None = None) -> list[Case]:
    """The prompts of this package; `half` selects `development` or `held_out`."""
    lines = (_BATTERY / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    cases = cases_from_rows([json.loads(line) for line in lines], EMBEDDED)
    return [case for case in cases if half is None or case.half == half]


def read_cases(path: Path, query_type_default: QueryType | None = None) -> list[Case]:
    """The prompts of a JSONL file. Raises FileError with line and field."""
    return read_rows(path, lambda row, _: _case(row, query_type_default))


def cases_from_rows(
    rows: Sequence[Mapping[str, Any]], source: str, query_type_default: QueryType | None = None
) -> list[Case]:
    """One case for each row. Raises FileError with line and field."""
    numbered = enumerate(rows, 1)
    return checked_rows(source, numbered, lambda row, _: _case(row, query_type_default), unit="line")


def _case(row: Mapping[str, Any], query_type_default: QueryType | None) -> Case:
    parsed = _Row.model_validate(row)
    if not parsed.response.strip():
        raise ValueError("response: a good answer is required, and this one is empty")
    query_type = parsed.query_type or query_type_default
    has_reference = bool(usable_references(parsed.reference))
    if query_type is None and has_reference:
        raise ValueError("query_type is required beside a reference; or use --query-type-default")
    if query_type is QueryType.CLOSED_ENDED and not has_reference:
        raise ValueError("reference is required with query_type closed_ended")
    query_type = query_type or QueryType.OPEN_ENDED
    item = Item(prompt=parsed.prompt, response=parsed.response, reference=parsed.reference, query_type=query_type)
    return Case(item, query_type, parsed.worse, parsed.half)


@cache
def passages(name: str) -> Sequence[str]:
    """Paragraphs on subjects that few prompts have: `off_topic`, `other_language`."""
    return _texts("passages.json")[name]


@cache
def phrases(name: str) -> Sequence[str]:
    """Sentences or words without content, by kind; some have the fields `{topic}` and `{prompt}`."""
    return _texts("phrases.json")[name]


@cache
def _texts(file: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads((_BATTERY / file).read_text(encoding="utf-8"))
    return found
