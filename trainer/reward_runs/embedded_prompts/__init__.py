"""The embedded prompts: written for this project, so that a run needs no data set from elsewhere.

    train.jsonl    what the policy learns on
    heldout.jsonl  what checkpoints are judged on; no near-duplicate of a training prompt

`README.md` beside them describes the format.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal

from reward_client.wire import QueryType

__all__ = ["Part", "PromptRow", "embedded_file", "load_embedded"]

Part = Literal["train", "heldout"]


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt, and what a good response is measured against."""

    id: str
    """`train-001`, `heldout-001`, …: unique over both parts."""
    prompt: str
    """The user's text; may carry a given text after `### Input:`."""
    query_type: QueryType
    reference: str | None
    """Reference answer; null for open-ended prompts."""
    topic: str


def embedded_file(part: Part) -> Traversable:
    """Where the JSON lines of `part` are installed."""
    return files(__name__).joinpath(f"{part}.jsonl")


def load_embedded(part: Part) -> list[PromptRow]:
    """All prompts of `part`, in the file's order, which mixes the query types."""
    lines = embedded_file(part).read_text(encoding="utf-8").splitlines()
    return [_row(json.loads(line)) for line in lines]


def _row(fields: dict[str, str]) -> PromptRow:
    return PromptRow(
        id=fields["id"],
        prompt=fields["prompt"],
        query_type=QueryType(fields["query_type"]),
        reference=fields["reference"],
        topic=fields["topic"],
    )
