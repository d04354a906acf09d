"""Score a JSONL file through the service, a batch at a time, resumable.

Each line is written only once its reward is known, in the order of the input; a run that was stopped counts the
whole lines already there and goes on behind them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reward_client.client import RewardClient
from reward_client.wire import Item, OnItemError, QueryType

__all__ = ["FileError", "Progress", "ScoreOptions", "read_rows", "score_file"]


class FileError(Exception):
    """A file cannot be used; the message names the line and the field."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """How to score: the fields of a request, and how many items it takes."""

    recipe: str | None = None
    gold: bool = False
    query_type_default: QueryType | None = None
    on_item_error: OnItemError = "fail"
    batch: int = 64
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a file is."""

    done: int
    total: int
    rows_per_s: float

    def __str__(self) -> str:
        left_s = (self.total - self.done) / self.rows_per_s if self.rows_per_s else 0.0
        return f"{self.done}/{self.total} items, {self.rows_per_s:.1f} a second, {left_s:.0f} s left   "


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file. Raises FileError."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise FileError(f"{path}: {exc}") from exc
    if lines == [""]:
        raise FileError(f"{path} is empty")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise FileError(f"{path}, line {number}: no JSON ({exc})") from exc
        if not isinstance(row, dict):
            raise FileError(f"{path}, line {number}: an object is needed, this is {type(row).__name__}")
        rows.append(row)
    return rows


def score_file(client: RewardClient, source: Path, target: Path, options: ScoreOptions) -> Iterator[Progress]:
    """Score `source` into `target`, yielding progress. Raises FileError and RewardError."""
    if target.exists() and source.samefile(target):
        raise FileError(f"{target} is the input; give another file for the output")
    rows = read_rows(source)
    items = [_item(row, f"{source}, line {number}") for number, row in enumerate(rows, 1)]
    done = 0 if options.overwrite else _finished(target, rows)
    started, first = time.monotonic(), done
    with target.open("r+b" if done else "wb") as out:
        out.seek(0, 2)
        pairs = islice(zip(rows, items, strict=True), done, None)
        while chunk := list(islice(pairs, options.batch)):
            out.write(_scored(client, chunk, options).encode())
            out.flush()
            done += len(chunk)
            yield Progress(done, len(rows), (done - first) / max(time.monotonic() - started, 1e-9))


def _scored(client: RewardClient, chunk: Sequence[tuple[dict[str, Any], Item]], options: ScoreOptions) -> str:
    reply = client.score(
        [item for _, item in chunk],
        recipe=options.recipe,
        gold=options.gold,
        query_type_default=options.query_type_default,
        on_item_error=options.on_item_error,
    )
    scored_by = {
        "recipe": reply.recipe.model_dump(mode="json"),
        "models": reply.models.model_dump(mode="json"),
        "notices": reply.notices,
    }
    lines = (
        json.dumps(row | {"result": result.model_dump(mode="json"), "scored_by": scored_by}, ensure_ascii=False)
        for (row, _), result in zip(chunk, reply.results, strict=True)
    )
    return "".join(f"{line}\n" for line in lines)


def _item(row: dict[str, Any], where: str) -> Item:
    try:
        return Item.model_validate({key: value for key, value in row.items() if key in Item.model_fields})
    except ValidationError as exc:
        error = exc.errors()[0]
        raise FileError(f"{where}: {'.'.join(map(str, error['loc']))}: {error['msg']}") from exc


def _finished(target: Path, rows: Sequence[dict[str, Any]]) -> int:
    """Whole lines of these rows already in `target`; a torn last line is cut off. Raises FileError."""
    if not target.exists():
        return 0
    content = target.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        if number > len(rows) or not _belongs(line, rows[number - 1]):
            raise FileError(
                f"{target}, line {number}, is not what scoring this input gives: it belongs to something else. "
                "Give another file, or --overwrite."
            )
    if whole != len(content):
        if not lines:
            raise FileError(f"{target} holds something else. Give another file, or --overwrite.")
        with target.open("r+b") as out:
            out.truncate(whole)
    return len(lines)


def _belongs(line: bytes, row: dict[str, Any]) -> bool:
    try:
        scored = json.loads(line)
    except ValueError:
        return False
    return (
        isinstance(scored, dict)
        and "result" in scored
        and all(scored.get(key) == value for key, value in row.items())
    )
