"""Input of `glassbox engineer`: responses with gold scores, several to a prompt.

    {"prompt": "…", "response": "…", "gold": 0.7}                one response a row
    {"prompt": "…", "responses": ["…", "…"], "gold": [0.7, 0.1]}  all responses to a prompt
    a folder with evaluation/STEP.jsonl                          the responses of an evaluation
    output of `glassbox score --gold`

The gold score is the field `gold`, `gold_reward`, or `result.gold_reward`. `reference` and `query_type` are those
of a score request, the same in all rows of a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from reward_client.rows import FileError, checked_rows, numbered_rows, row_unit
from reward_client.wire import Item

_GOLD_FIELDS = ("gold", "gold_reward")


@dataclass(frozen=True, slots=True)
class Row:
    """A response with its gold score."""

    item: Item
    gold: float | None
    """None: the service scores it."""
    where: str
    """File and line."""

    @property
    def prompt(self) -> str:
        """Identity of the prompt."""
        prompt = self.item.prompt
        if isinstance(prompt, str):
            return prompt
        return "\0".join(f"{message.role}\0{message.content}" for message in prompt)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of all files, those of a prompt as neighbours."""

    rows: Sequence[Row]
    n_merged: int
    """Rows left out because another one has the same prompt and response; gold scores were averaged."""


def read(paths: Sequence[Path], limit: int | None, *, needs_gold: bool) -> Rows:
    """The rows of files and folders. Raises FileError naming lines and fields.

    Args:
        paths: files, or folders of evaluations.
        limit: rows that are read of each file; None: all.
        needs_gold: whether a row without a gold score is an error.
    """
    found: list[Row] = []
    for path in (file for one in paths for file in _files(one)):
        found += _read_file(path, limit, needs_gold=needs_gold)
    return _grouped(found)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    folder = path / "evaluation" if (path / "evaluation").is_dir() else path
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise FileError(f"{path} has no evaluated responses (evaluation/*.jsonl): name a file, or evaluate first")
    return files


def _read_file(path: Path, limit: int | None, *, needs_gold: bool) -> list[Row]:
    unit = row_unit(path)

    def make(fields: dict[str, Any], number: int) -> list[Row]:
        return list(_rows(fields, f"{path}, {unit} {number}", needs_gold=needs_gold))

    made = checked_rows(str(path), islice(numbered_rows(path), limit), make, unit=unit)
    rows = [row for several in made for row in several]
    if not rows:
        raise FileError(f"{path} has no rows")
    return rows


def _rows(fields: Mapping[str, Any], where: str, *, needs_gold: bool) -> Iterator[Row]:
    """The rows of one line. Raises ValueError naming the field."""
    known = {name: value for name, value in fields.items() if name in Item.model_fields and name != "id"}
    gold = _gold_field(fields)
    responses = fields.get("responses")
    if responses is None:
        yield Row(Item.model_validate(known), _gold(gold, "gold", required=needs_gold), where)
        return
    if not isinstance(responses, list) or not responses:
        raise ValueError("responses: a list of texts is required")
    golds = gold if isinstance(gold, list) else [None] * len(responses)
    if len(golds) != len(responses):
        raise ValueError(f"gold: has {len(golds)} scores, responses has {len(responses)}")
    for n, (response, score) in enumerate(zip(responses, golds, strict=True)):
        yield Row(
            Item.model_validate(known | {"response": response}),
            _gold(score, f"gold.{n}", required=needs_gold),
            where,
        )


def _gold_field(fields: Mapping[str, Any]) -> Any:
    for name in _GOLD_FIELDS:
        if fields.get(name) is not None:
            return fields[name]
    result = fields.get("result")
    return result.get("gold_reward") if isinstance(result, dict) else None


def _gold(value: Any, field: str, *, required: bool) -> float | None:
    if value is None:
        if required:
            raise ValueError(f"{field}: is missing; add it, or let the service score with --gold-from-service")
        return None
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f"{field}: a finite number is required, not {str(value)[:40]!r}")
    return score


def _grouped(found: Sequence[Row]) -> Rows:
    """The rows by prompt, in order of first appearance, without duplicates. Raises FileError."""
    by_prompt: dict[str, dict[str, list[Row]]] = {}
    for row in found:
        by_prompt.setdefault(row.prompt, {}).setdefault(row.item.response, []).append(row)
    rows = []
    for responses in by_prompt.values():
        same = [row for several in responses.values() for row in several]
        _check_same_prompt(same)
        rows += [_merged(several) for several in responses.values()]
    return Rows(rows, len(found) - len(rows))


def _check_same_prompt(rows: Sequence[Row]) -> None:
    first = rows[0]
    for row in rows[1:]:
        for field in ("query_type", "reference"):
            if getattr(row.item, field) != getattr(first.item, field):
                raise FileError(f"{row.where}: {field}: differs from {first.where}, which has the same prompt")
        if (row.gold is None) != (first.gold is None):
            raise FileError(
                f"{row.where}: gold: only one of this row and {first.where} has a score, and both have the same "
                "prompt: scores of two gold models cannot be compared, so give all of them, or none"
            )


def _merged(several: Sequence[Row]) -> Row:
    first, *others = several
    if not others or first.gold is None:
        return first
    golds = [row.gold for row in several if row.gold is not None]
    return Row(first.item, math.fsum(golds) / len(golds), first.where)
