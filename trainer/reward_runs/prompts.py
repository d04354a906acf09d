"""Prompts: read from any accepted source, with every row checked.

    embedded | FILE (.jsonl, .json, .csv, .parquet) | Hugging Face dataset ──▶ load_prompts ──▶ [Prompt]

An invalid row is an error that names it; rows are never skipped, completed or truncated.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from reward_client.rows import FileError, NumberedRow, checked_rows, numbered_lines, numbered_rows, row_unit
from reward_client.wire import (
    AnyQueryType,
    QueryType,
    Reference,
    ScalarText,
    error_message,
    error_path,
    usable_references,
)
from reward_runs.errors import DataError

EMBEDDED_PROMPTS = "embedded"
FILE_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
"""Sources with another ending are names of data sets."""
Part = Literal["train", "heldout"]
"""The embedded prompts for training, and those for the evaluation."""


class Prompt(BaseModel):
    """A prompt, and the reference that its response is compared with."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: ScalarText
    prompt: str = Field(min_length=1)
    query_type: AnyQueryType
    reference: Reference | None = None
    """A text, several of which the best counts, or None."""
    topic: str | None = None

    @field_validator("reference")
    @classmethod
    def _usable(cls, value: Reference | None) -> Reference | None:
        texts = [text for _, text in usable_references(value)]
        return list(texts) if len(texts) > 1 else next(iter(texts), None)

    @field_validator("prompt")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is blank")
        return value

    @model_validator(mode="after")
    def _closed_ended_has_reference(self) -> Self:
        if self.query_type is QueryType.CLOSED_ENDED and self.reference is None:
            raise ValueError("reference: a closed_ended prompt needs one")
        return self


@dataclass(frozen=True)
class Columns:
    """Names of the fields in the user's data, and the query type of rows that have a reference and none."""

    prompt: str = "prompt"
    reference: str = "reference"
    query_type: str = "query_type"
    query_type_default: str | None = None
    """None: such a row is an error."""


def add_columns(group: argparse._ArgumentGroup) -> None:
    """Add the options for `Columns`, and `--system-prompt`."""
    add = group.add_argument
    add("--prompt-column", metavar="NAME", help="field with the prompt (default: prompt)")
    add("--reference-column", metavar="NAME", help="field with the reference (default: reference)")
    add("--query-type-column", metavar="NAME", help="field with the query type (default: query_type)")
    add(
        "--query-type-default",
        choices=[query_type.name.lower() for query_type in QueryType],
        help="query type of prompts that have a reference and no query type (default: such a prompt is an error)",
    )
    add("--system-prompt", metavar="TEXT", help="system message before each prompt (default: the chat template's)")


def embedded_file(part: Part) -> Traversable:
    """Return the file with the JSON lines of `part`; `README.md` beside it describes the format."""
    return files(__package__) / "embedded_prompts" / f"{part}.jsonl"


def load_embedded(part: Part) -> list[Prompt]:
    """Return the embedded prompts of `part`, in the order of the file, in which query types alternate."""
    return load_prompts(EMBEDDED_PROMPTS, Columns(), embedded=part)


def load_prompts(source: str, columns: Columns, *, embedded: Part = "train") -> list[Prompt]:
    """Read `source`: `embedded`, a file with one of FILE_ENDINGS, or a Hugging Face dataset (its `train` split).

    Raises DataError naming file, row and field; several invalid rows are reported together.
    """
    if source == EMBEDDED_PROMPTS:
        columns = Columns()
    try:
        rows = list(_rows(source, embedded))
        if not rows:
            raise DataError(f"{source} contains no prompts")
        _check_columns(source, columns, rows)
        unit = row_unit(Path(source)) if source.endswith(FILE_ENDINGS) else "row"
        prompts = checked_rows(source, rows, lambda row, number: _prompt(row, columns, number), unit=unit)
    except FileError as exc:
        raise DataError(str(exc)) from exc
    _check_ids(source, prompts)
    return prompts


def _rows(source: str, embedded: Part) -> Iterable[NumberedRow]:
    if source == EMBEDDED_PROMPTS:
        return numbered_lines(embedded_file(embedded).read_text(encoding="utf-8"))
    if source.endswith(FILE_ENDINGS):
        return numbered_rows(Path(source))
    return enumerate(_hub_rows(source), 1)


def _hub_rows(source: str) -> Iterable[Any]:
    from datasets import load_dataset

    try:
        rows: Iterable[Any] = load_dataset(source, split="train")
    except Exception as exc:
        raise DataError(
            f"cannot load the dataset {source!r}: {exc}. Check the name; a file ends in {', '.join(FILE_ENDINGS)}."
        ) from exc
    return rows


def _check_columns(source: str, columns: Columns, rows: Sequence[NumberedRow]) -> None:
    objects = [row for _, row in rows if isinstance(row, dict)]
    if objects and not any(columns.prompt in row for row in objects):
        raise DataError(
            f"{source} has no column {columns.prompt!r}; it has {', '.join(map(repr, objects[0]))}. "
            "Name the columns with --prompt-column, --reference-column and --query-type-column."
        )


def _prompt(row: dict[str, Any], columns: Columns, number: int) -> Prompt:
    reference, query_type, given_id = (row.get(name) for name in (columns.reference, columns.query_type, "id"))
    if query_type in (None, "") and reference not in (None, "", []):
        query_type = columns.query_type_default
    if query_type is None and reference not in (None, "", []):
        raise ValueError(
            f"{columns.query_type} is missing but {columns.reference} is given: write open_ended or closed_ended, "
            "or set one for all such prompts with --query-type-default"
        )
    try:
        return Prompt.model_validate(
            {
                "id": number if given_id in (None, "") else given_id,
                "prompt": row.get(columns.prompt),
                "query_type": query_type or QueryType.OPEN_ENDED,
                "reference": reference,
                "topic": row.get("topic"),
            }
        )
    except ValidationError as exc:
        raise ValueError(first_error(exc, vars(columns))) from exc


def first_error(exc: ValidationError, names: dict[str, str] | None = None) -> str:
    """Return `field: message` of the first error; `names` maps a field to its name in the user's data."""
    error = exc.errors()[0]
    field, *rest = map(str, error_path(error) or ("",))
    path = ".".join([(names or {}).get(field, field), *rest])
    return f"{path}: {error_message(error)}" if path else error_message(error)


def _check_ids(source: str, prompts: Sequence[Prompt]) -> None:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise DataError(
                f"{source}: the id {prompt.id!r} occurs twice, so responses cannot be paired by prompt"
            )
        seen.add(prompt.id)


def messages(prompt: Prompt, system_prompt: str | None) -> list[dict[str, str]]:
    """Return the conversation that the policy responds to."""
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    return [*system, {"role": "user", "content": prompt.prompt}]


def model_input(prompt: Prompt, system_prompt: str | None, *, chat: bool) -> list[dict[str, str]] | str:
    """Return the input of the policy: messages for a chat template, plain text without one."""
    conversation = messages(prompt, system_prompt)
    return conversation if chat else "\n\n".join(message["content"] for message in conversation)
