"""Score a JSONL file through the service, a batch at a time, resumable.

Each line is written only once its reward is known, in the order of the input; a run that was stopped counts the
whole lines already there and goes on behind them, as long as the service would still score them the same way. A
disk that fills costs no line that was there.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reward_client.client import RewardClient
from reward_client.wire import Item, ItemResult, OnItemError, QueryType, ScoreReply

__all__ = ["FileError", "Progress", "ScoreOptions", "read_rows", "score_file"]


_SAME = 1e-3
"""Rewards of one item that are nearer, relatively or absolutely, were computed in the same way."""


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
    finished = [] if options.overwrite else _finished(target, rows)
    way = _way_of(target, finished)
    if way is not None:
        again = _ask(client, items[:1], options)
        _check_way(target, way, _way(again))
        _check_first(target, finished[0]["result"], again.results[0])
    done = first = len(finished)
    started = time.monotonic()
    with _opened(target, "r+b" if done else "wb") as out:
        if done:
            out.seek(0, 2)
        while done < len(rows):
            chunk = slice(done, done + options.batch)
            reply = _ask(client, items[chunk], options)
            way = way or _way(reply)
            _check_way(target, way, _way(reply))
            _append(out, _lines(rows[chunk], reply), target)
            done += len(reply.results)
            yield Progress(done, len(rows), (done - first) / max(time.monotonic() - started, 1e-9))


def _ask(client: RewardClient, items: Sequence[Item], options: ScoreOptions) -> ScoreReply:
    return client.score(
        items,
        recipe=options.recipe,
        gold=options.gold,
        query_type_default=options.query_type_default,
        on_item_error=options.on_item_error,
    )


def _lines(rows: Sequence[dict[str, Any]], reply: ScoreReply) -> bytes:
    scored_by = _way(reply) | {"notices": reply.notices}
    lines = (
        json.dumps(row | {"result": result.model_dump(mode="json"), "scored_by": scored_by}, ensure_ascii=False)
        for row, result in zip(rows, reply.results, strict=True)
    )
    return "".join(f"{line}\n" for line in lines).encode()


# One way of scoring in a file -----------------------------------------------------------------------------------


def _way(scored_by: ScoreReply) -> dict[str, Any]:
    """What two rewards must share to be compared."""
    return {
        "recipe": scored_by.recipe.model_dump(mode="json"),
        "models": scored_by.models.model_dump(mode="json"),
    }


def _way_of(target: Path, lines: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """How `lines` were scored; None when there are none. Raises FileError when they differ."""
    ways = [{key: line["scored_by"].get(key) for key in ("recipe", "models")} for line in lines]
    for way in ways:
        _check_way(target, ways[0], way)
    return ways[0] if ways else None


def _check_way(target: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    if before != now:
        raise FileError(
            f"{target} holds rewards by {_named(before)}, and this would add rewards by {_named(now)}. "
            "Ask as before, or give another file, or --overwrite."
        )


def _check_first(target: Path, before: dict[str, Any], now: ItemResult) -> None:
    """What recipe and models do not tell shows in a reward: a default query type, or the precision."""
    query_type, reward = before.get("query_type"), before.get("reward")
    if reward is None or now.reward is None:
        return
    if query_type != now.query_type or not math.isclose(reward, now.reward, rel_tol=_SAME, abs_tol=_SAME):
        raise FileError(
            f"the first item of {target} has the reward {reward} as {query_type}, and now gets {now.reward} as "
            f"{now.query_type}. Ask as before, or give another file, or --overwrite."
        )


def _named(way: dict[str, Any]) -> str:
    recipe, models = way["recipe"] or {}, way["models"] or {}
    used = [_with_weights(models, kind) for kind in ("relevance", "gold") if models.get(kind)]
    return f"recipe {recipe.get('name')} ({recipe.get('hash')}) with {' and '.join(used) or 'no model'}"


def _with_weights(models: dict[str, Any], kind: str) -> str:
    return f"{models[kind]} (weights {str(models.get(f'{kind}_revision'))[:12]})"


# The file -------------------------------------------------------------------------------------------------------


def _opened(target: Path, mode: str) -> FileIO:
    """Unbuffered, so that what is written is written, and what is not is known."""
    try:
        return FileIO(target, mode)
    except OSError as exc:
        raise FileError(f"{target} cannot be written: {exc.strerror}") from exc


def _append(out: FileIO, content: bytes, target: Path) -> None:
    """Write all of `content`, or leave the file as it was. Raises FileError."""
    before, left = out.tell() if out.seekable() else 0, memoryview(content)
    try:
        while left:
            left = left[out.write(left) :]
    except OSError as exc:
        with suppress(OSError):  # a device, which has no length
            out.truncate(before)
        raise FileError(
            f"{target} cannot be written on: {exc.strerror}; the lines before are whole, and the same command "
            "(without --overwrite) goes on behind them"
        ) from exc


def _item(row: dict[str, Any], where: str) -> Item:
    try:
        return Item.model_validate({key: value for key, value in row.items() if key in Item.model_fields})
    except ValidationError as exc:
        error = exc.errors()[0]
        raise FileError(f"{where}: {'.'.join(map(str, error['loc']))}: {error['msg']}") from exc


def _finished(target: Path, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The whole lines of these rows already in `target`; a torn last line is cut off. Raises FileError."""
    if not target.is_file():  # nothing yet, or a device
        return []
    content = target.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = [_parsed(line) for line in content[:whole].split(b"\n")[:-1]]
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
    return lines


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        scored = json.loads(line)
    except ValueError:
        return {}
    return scored if isinstance(scored, dict) else {}


def _belongs(scored: dict[str, Any], row: dict[str, Any]) -> bool:
    ours = "result" in scored and isinstance(scored.get("scored_by"), dict)
    return ours and all(scored.get(key) == value for key, value in row.items())
