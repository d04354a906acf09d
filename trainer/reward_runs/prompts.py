"""Prompts: read from any accepted source, with every row checked.

    embedded | FILE.jsonl | FILE.json | Hugging Face dataset ──▶ load_prompts ──▶ [Prompt]

An invalid row is an error that names it; rows are never skipped, completed or truncated.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from reward_client.wire import AnyQueryType, QueryType
from reward_runs.errors import DataError
from reward_runs.files import json_lines, parse_json, read_text

EMBEDDED_PROMPTS = "embedded"
Part = Literal["train", "heldout"]
"""The embedded prompts for training, and those for the evaluation."""
_MAX_REPORTED = 5


class Prompt(BaseModel):
    """A prompt, and the reference that its response is compared with."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    prompt: str = Field(min_length=1)
    query_type: AnyQueryType
    reference: str | None = None
    topic: str | None = None

    @field_validator("prompt")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is blank")
        return value

    @model_validator(mode="after")
    def _closed_ended_has_reference(self) -> Self:
        if self.query_type is QueryType.CLOSED_ENDED and not (self.reference or "").strip():
            raise ValueError("reference: a closed_ended prompt needs one")
        return self


@dataclass(frozen=True)
class Columns:
    """Names of the fields in the user's data."""

    prompt: str = "prompt"
    reference: str = "reference"
    query_type: str = "query_type"


def add_columns(group: argparse._ArgumentGroup) -> None:
    """Add the options for `Columns`, and `--system-prompt`."""
    add = group.add_argument
    add("--prompt-column", metavar="NAME", help="field with the prompt (default: prompt)")
    add("--reference-column", metavar="NAME", help="field with the reference (default: reference)")
    add("--query-type-column", metavar="NAME", help="field with the query type (default: query_type)")
    add("--system-prompt", metavar="TEXT", help="system message before each prompt (default: the chat template's)")


def embedded_file(part: Part) -> Traversable:
    """Return the file with the JSON lines of `part`; `README.md` beside it describes the format."""
    return files(__package__) / "embedded_prompts" / f"{part}.jsonl"


def load_embedded(part: Part) -> list[Prompt]:
    """Return the embedded prompts of `part`, in the order of the file, in which query types alternate."""
    return load_prompts(EMBEDDED_PROMPTS, Columns(), embedded=part)


def load_prompts(source: str, columns: Columns, *, embedded: Part = "train") -> list[Prompt]:
    """Read `source`: `embedded`, a .jsonl or .json file, or a Hugging Face dataset (its `train` split).

    Raises DataError naming file, row and field; several invalid rows are reported together.
    """
    if source == EMBEDDED_PROMPTS:
        columns = Columns()
    rows = list(_rows(source, embedded))
    if not rows:
        raise DataError(f"{source} contains no prompts")
    _check_columns(source, columns, rows)
    prompts, invalid = [], []
    for number, row in rows:
        try:
            prompts.append(_prompt(row, columns, number))
        except ValidationError as exc:
            invalid.append(f"{source}, row {number}: {first_error(exc, vars(columns))}")
        except ValueError as exc:
            invalid.append(f"{source}, row {number}: {exc}")
    raise_invalid(invalid)
    _check_ids(source, prompts)
    return prompts


def raise_invalid(messages: Sequence[str]) -> None:
    """Raise DataError with the first few of `messages`, if there are any."""
    if messages:
        more = f"\nand {len(messages) - _MAX_REPORTED} more" if len(messages) > _MAX_REPORTED else ""
        raise DataError("\n".join(messages[:_MAX_REPORTED]) + more)


def _rows(source: str, embedded: Part) -> Iterator[tuple[int, Any]]:
    """Yield (row number from 1, row)."""
    if source == EMBEDDED_PROMPTS:
        yield from json_lines(source, embedded_file(embedded).read_text(encoding="utf-8"))
    elif source.endswith(".jsonl"):
        yield from json_lines(source, read_text(source))
    elif source.endswith(".json"):
        yield from enumerate(_json_list(source), 1)
    else:
        yield from enumerate(_hub_rows(source), 1)


def _json_list(source: str) -> list[Any]:
    rows = parse_json(source, read_text(source))
    if not isinstance(rows, list):
        raise DataError(f"{source}: a .json file must be a list of objects; use .jsonl for one object per line")
    return rows


def _hub_rows(source: str) -> Iterable[Any]:
    from datasets import load_dataset

    try:
        rows: Iterable[Any] = load_dataset(source, split="train")
    except Exception as exc:
        raise DataError(
            f"cannot load the dataset {source!r}: {exc}. Check the name; a file name must end in .jsonl or .json."
        ) from exc
    return rows


def _check_columns(source: str, columns: Columns, rows: Sequence[tuple[int, Any]]) -> None:
    number, first = rows[0]
    if not isinstance(first, dict):
        raise DataError(f"{source}, row {number}: not a JSON object")
    if not any(isinstance(row, dict) and columns.prompt in row for _, row in rows):
        raise DataError(
            f"{source} has no column {columns.prompt!r}; it has {', '.join(map(repr, first))}. "
            "Name the columns with --prompt-column, --reference-column and --query-type-column."
        )


def _prompt(row: Any, columns: Columns, number: int) -> Prompt:
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - an invalid row, reported like the others
    reference = row.get(columns.reference) or None
    query_type = row.get(columns.query_type)
    if query_type is None and reference is not None:
        raise ValueError(
            f"{columns.query_type} is missing but {columns.reference} is given: write open_ended or closed_ended"
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


def first_error(exc: ValidationError, names: dict[str, str] | None = None) -> str:
    """Return `field: message` of the first error; `names` maps a field to its name in the user's data."""
    error = exc.errors()[0]
    field = ".".join(str(part) for part in error["loc"][:1])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{(names or {}).get(field, field)}: {message}" if field else message


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
