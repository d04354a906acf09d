"""Prompts: read them from where they are, check every row, write what OpenRLHF and the evaluation read.

    embedded | FILE.jsonl | FILE.json | Hugging Face dataset
        ──▶ [Prompt] ──▶ hold some out ──▶ data/train.jsonl    input: messages or text, label: JSON
                                      └──▶ data/heldout.jsonl  our own form

A wrong row is an error that names it; nothing is guessed, skipped or cut.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from reward_client.wire import AnyQueryType, QueryType
from reward_runs.errors import DataError

__all__ = [
    "Columns",
    "Prompt",
    "check_overlap",
    "hold_out",
    "label",
    "load_prompts",
    "messages",
    "training_order",
    "training_row",
]

EMBEDDED_PROMPTS = "embedded"
_MAX_REPORTED = 5


class Prompt(BaseModel):
    """One prompt and what is known about a good response to it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    prompt: str = Field(min_length=1)
    query_type: AnyQueryType
    reference: str | None = None
    topic: str | None = None

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is blank")
        return value

    @model_validator(mode="after")
    def _closed_ended_has_reference(self) -> Prompt:
        if self.query_type is QueryType.CLOSED_ENDED and not (self.reference or "").strip():
            raise ValueError("reference: a closed_ended prompt needs one")
        return self


@dataclass(frozen=True)
class Columns:
    """What the fields are called in the user's data."""

    prompt: str = "prompt"
    reference: str = "reference"
    query_type: str = "query_type"


def load_prompts(source: str, columns: Columns, *, embedded: str = "train") -> list[Prompt]:
    """Read `source`: `embedded`, a .jsonl or .json file, or a Hugging Face dataset (its `train` split).

    Raises DataError naming file, row and field; several wrong rows are reported together.
    """
    if source == EMBEDDED_PROMPTS:
        columns = Columns()
    rows = list(_rows(source, embedded))
    if not rows:
        raise DataError(f"{source} holds no prompts")
    _check_columns(source, columns, rows)
    prompts, wrong = [], []
    for number, row in rows:
        try:
            prompts.append(_prompt(row, columns, number))
        except ValidationError as exc:
            wrong.append(f"{source}, row {number}: {_first_error(exc, columns)}")
        except ValueError as exc:
            wrong.append(f"{source}, row {number}: {exc}")
    if wrong:
        more = f"\nand {len(wrong) - _MAX_REPORTED} more" if len(wrong) > _MAX_REPORTED else ""
        raise DataError("\n".join(wrong[:_MAX_REPORTED]) + more)
    _check_ids(source, prompts)
    return prompts


def _rows(source: str, embedded: str) -> Iterator[tuple[int, Any]]:
    """Yield (row number from 1, row)."""
    if source == EMBEDDED_PROMPTS:
        text = (resources.files("reward_runs") / "embedded_prompts" / f"{embedded}.jsonl").read_text(
            encoding="utf-8"
        )
        yield from _json_lines(source, text)
    elif source.endswith(".jsonl"):
        yield from _json_lines(source, _read(source))
    elif source.endswith(".json"):
        yield from enumerate(_json_list(source, _read(source)), 1)
    else:
        yield from enumerate(_hub_rows(source), 1)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"cannot read the prompts {path}: {exc}") from exc


def _json_lines(source: str, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _json(f"{source}, row {number}", line)


def _json_list(source: str, text: str) -> list[Any]:
    rows = _json(source, text)
    if not isinstance(rows, list):
        raise DataError(f"{source}: a .json file must hold a list of objects; use .jsonl for one object a line")
    return rows


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{where}: no valid JSON: {exc}") from exc


def _hub_rows(source: str) -> Iterable[Any]:
    from datasets import load_dataset

    try:
        rows: Iterable[Any] = load_dataset(source, split="train")
    except Exception as exc:
        raise DataError(
            f"cannot load the data set {source!r}: {exc}. Is the name right? A file must end in .jsonl or .json."
        ) from exc
    return rows


def _check_columns(source: str, columns: Columns, rows: Sequence[tuple[int, Any]]) -> None:
    number, first = rows[0]
    if not isinstance(first, dict):
        raise DataError(f"{source}, row {number}: is no object with fields")
    if not any(isinstance(row, dict) and columns.prompt in row for _, row in rows):
        raise DataError(
            f"{source} has no column {columns.prompt!r}; it has {', '.join(map(repr, first))}. "
            "Name them with --prompt-column, --reference-column and --query-type-column."
        )


def _prompt(row: Any, columns: Columns, number: int) -> Prompt:
    if not isinstance(row, dict):
        raise ValueError("is no object with fields")  # noqa: TRY004 - a wrong row, like the others
    reference = row.get(columns.reference) or None
    query_type = row.get(columns.query_type)
    if query_type is None and reference is not None:
        raise ValueError(
            f"{columns.query_type} is missing while {columns.reference} is given: say open_ended or closed_ended"
        )
    return Prompt.model_validate(
        {
            "id": str(row.get("id") or number),
            "prompt": row.get(columns.prompt),
            "query_type": query_type or QueryType.OPEN_ENDED,
            "reference": reference,
            "topic": row.get("topic"),
        }
    )


def _first_error(exc: ValidationError, columns: Columns) -> str:
    error = exc.errors()[0]
    field = ".".join(str(part) for part in error["loc"][:1])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{getattr(columns, field, field)}: {message}" if field else message


def _check_ids(source: str, prompts: Sequence[Prompt]) -> None:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise DataError(
                f"{source}: the id {prompt.id!r} occurs twice, so responses could not be paired by prompt"
            )
        seen.add(prompt.id)


def hold_out(prompts: Sequence[Prompt], n: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """Split into (training, held-out), `n` or a fifth held out, equal texts on the same side."""
    n = min(n, len(prompts) // 5)
    if n == 0:
        raise DataError(
            f"{len(prompts)} prompts are too few to hold some out: give at least 5, or a held-out file"
        )
    shuffled = random.Random(seed).sample(list(prompts), len(prompts))
    held_texts = {_normalised(prompt.prompt) for prompt in shuffled[:n]}
    heldout = _first_of_each_text(prompt for prompt in prompts if _normalised(prompt.prompt) in held_texts)
    training = [prompt for prompt in prompts if _normalised(prompt.prompt) not in held_texts]
    if not training:
        raise DataError("all prompts say the same: nothing is left to train on")
    return training, heldout


def _first_of_each_text(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Equal texts under several ids would count as independent prompts, and make intervals too narrow."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        first.setdefault(_normalised(prompt.prompt), prompt)
    return list(first.values())


def check_overlap(training: Sequence[Prompt], heldout: Sequence[Prompt]) -> None:
    """Raise DataError when a held-out prompt is a training prompt, but for case, punctuation and spaces."""
    known = {_normalised(prompt.prompt): prompt.id for prompt in training}
    both = [(prompt.id, known[text]) for prompt in heldout if (text := _normalised(prompt.prompt)) in known]
    if both:
        pairs = ", ".join(f"{held!r} = {trained!r}" for held, trained in both[:_MAX_REPORTED])
        raise DataError(f"{len(both)} held-out prompts are training prompts too (held-out = training): {pairs}")


def _normalised(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def training_order(prompts: Sequence[Prompt], n: int, seed: int) -> list[Prompt]:
    """Return `n` prompts: shuffled passes through all of them, one after another."""
    return list(islice(_endless(prompts, random.Random(seed)), n))


def _endless(prompts: Sequence[Prompt], rng: random.Random) -> Iterator[Prompt]:
    while True:
        yield from rng.sample(list(prompts), len(prompts))


def messages(prompt: Prompt, system_prompt: str | None) -> list[dict[str, str]]:
    """Return the conversation that the policy answers."""
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    return [*system, {"role": "user", "content": prompt.prompt}]


def label(prompt: Prompt) -> str:
    """Return what OpenRLHF carries along as label, and the reward service reads: JSON."""
    return json.dumps(
        {"query_type": prompt.query_type.value, "reference": prompt.reference, "id": prompt.id}, ensure_ascii=False
    )


def training_row(prompt: Prompt, system_prompt: str | None, *, chat: bool) -> dict[str, Any]:
    """Return a row of OpenRLHF's data set: messages for a chat template, plain text without one."""
    conversation = messages(prompt, system_prompt)
    text = "\n\n".join(message["content"] for message in conversation)
    return {"input": conversation if chat else text, "label": label(prompt)}
