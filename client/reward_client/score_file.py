"""Scores a JSONL file through the service in batches; can be resumed.

Each row is written after its reward has been received, in the order of the input. A run that was stopped
continues after the last complete line, provided that the service still scores with the same recipe and models. A
full disk never damages lines that were written before.
"""

import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from reward_client.client import RewardClient
from reward_client.errors import RewardError, RewardRejectedError
from reward_client.rows import FileError, read_rows, row_unit
from reward_client.wire import Item, ItemResult, ScoreReply

_ITEM = re.compile(r"\bitems\.(\d+)\.")
_TOLERANCE = 1e-3
"""Relative or absolute difference up to which two rewards of one item count as equal."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of scoring a file."""

    done: int
    total: int
    rows_per_s: float

    def __str__(self) -> str:
        left_s = (self.total - self.done) / self.rows_per_s if self.rows_per_s else 0.0
        return f"{self.done}/{self.total} items, {self.rows_per_s:.1f} a second, {left_s:.0f} s left   "


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of the input."""

    number: int
    fields: dict[str, Any]
    item: Item


_WRITTEN = ("result", "scored_by")
"""Fields that are added to each row."""


def _row(fields: dict[str, Any], number: int) -> _Row:
    taken = [name for name in _WRITTEN if name in fields]
    if taken:
        raise ValueError(f"{taken[0]}: this command writes a field of that name; rename it, or remove it")
    known = {name: value for name, value in fields.items() if name in Item.model_fields}
    return _Row(number, fields, Item.model_validate(known))


def score_file(
    client: RewardClient, source: Path, target: Path, *, batch: int = 64, overwrite: bool = False, **options: Any
) -> Iterator[Progress]:
    """Score `source` into `target`, yielding progress. Raises FileError and RewardError.

    Args:
        client: sends the requests.
        source: JSONL file of items.
        target: JSONL file to write, or to continue.
        batch: number of items in a request.
        overwrite: whether to replace `target`.
        options: those of `RewardClient.score`.
    """
    if target.exists() and source.samefile(target):
        raise FileError(f"{target} is the input; choose another output file")
    rows = read_rows(source, _row)
    finished = [] if overwrite else _finished(target, rows)
    scorer = _scorer_of_lines(target, finished)
    if scorer is not None:
        again = _score(client, source, rows[:1], options)
        _check_same_scorer(target, scorer, _scorer(again))
        _check_first(target, finished[0]["result"], again.results[0])
    done = first = len(finished)
    started = time.monotonic()
    with _opened(target, "r+b" if done else "wb") as out:
        if done:
            out.seek(0, 2)
        while done < len(rows):
            chunk = rows[done : done + batch]
            reply = _score(client, source, chunk, options)
            scorer = scorer or _scorer(reply)
            _check_same_scorer(target, scorer, _scorer(reply))
            _append(out, _lines(chunk, reply), target)
            done += len(reply.results)
            yield Progress(done, len(rows), (done - first) / max(time.monotonic() - started, 1e-9))


def _score(client: RewardClient, source: Path, rows: Sequence[_Row], options: dict[str, Any]) -> ScoreReply:
    """The reply to `rows`. Errors name their lines in `source` instead of their places in the request."""
    try:
        return client.score([row.item for row in rows], **options)
    except RewardRejectedError as exc:
        wrong = [(error.item, error) for error in exc.errors if error.item is not None]
        if not wrong:
            raise
        lines = [
            f"{source}, {row_unit(source)} {rows[item].number}: {_ITEM.sub('', error.field)}: {error.message}"
            for item, error in wrong
        ]
        raise FileError("\n".join(lines)) from exc
    except RewardError as exc:
        unit = row_unit(source)
        raise RewardError(_ITEM.sub(lambda item: f"{unit} {rows[int(item[1])].number}, ", str(exc))) from exc


def _lines(rows: Sequence[_Row], reply: ScoreReply) -> bytes:
    scored_by = _scorer(reply) | {"notices": reply.notices}
    scored = (
        row.fields | {"result": result.model_dump(mode="json"), "scored_by": scored_by}
        for row, result in zip(rows, reply.results, strict=True)
    )
    lines = (json.dumps(row, ensure_ascii=False) for row in scored)
    return "".join(f"{line}\n" for line in lines).encode()


# One scorer for the whole file: recipe and models ----------------------------------------------------------------


def _scorer(reply: ScoreReply) -> dict[str, Any]:
    """Recipe and models, which two rewards must share to be comparable."""
    return {"recipe": reply.recipe.model_dump(mode="json"), "models": reply.models.model_dump(mode="json")}


def _scorer_of_lines(target: Path, lines: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Recipe and models of `lines`; None for an empty list. Raises FileError when they differ."""
    scorers = [{key: line["scored_by"].get(key) for key in ("recipe", "models")} for line in lines]
    for scorer in scorers:
        _check_same_scorer(target, scorers[0], scorer)
    return scorers[0] if scorers else None


def _check_same_scorer(target: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    if before != now:
        raise FileError(
            f"{target} has rewards of {_describe(before)}; this run would add rewards of {_describe(now)}. "
            "Use the same options as before, another output file, or --overwrite."
        )


def _check_first(target: Path, before: dict[str, Any], now: ItemResult) -> None:
    """Compare the first reward: it also depends on what the file does not record, as the default query type."""
    query_type, reward = before.get("query_type"), before.get("reward")
    if reward is None or now.reward is None:
        return
    if query_type != now.query_type or not math.isclose(
        reward, now.reward, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE
    ):
        raise FileError(
            f"the first item of {target} has the reward {reward} as {query_type}, and now the reward {now.reward} "
            f"as {now.query_type}. Use the same options as before, another output file, or --overwrite."
        )


def _describe(scorer: dict[str, Any]) -> str:
    recipe, models = scorer["recipe"] or {}, scorer["models"] or {}
    used = [
        f"{models[kind]} (weights {str(models.get(f'{kind}_revision'))[:12]})"
        for kind in ("relevance", "gold")
        if models.get(kind)
    ]
    return f"recipe {recipe.get('name')} ({recipe.get('hash')}) with {' and '.join(used) or 'no model'}"


# The file -------------------------------------------------------------------------------------------------------


def _opened(target: Path, mode: str) -> FileIO:
    """Open without a buffer, so that a failed write is reported at once."""
    try:
        return FileIO(target, mode)
    except OSError as exc:
        raise FileError(f"{target} cannot be written: {exc.strerror}") from exc


def _append(out: FileIO, content: bytes, target: Path) -> None:
    """Write all of `content`, or restore the file and raise FileError."""
    before, left = out.tell() if out.seekable() else 0, memoryview(content)
    try:
        while left:
            left = left[out.write(left) :]
    except OSError as exc:
        with suppress(OSError):  # a device cannot be truncated
            out.truncate(before)
        raise FileError(
            f"{target} cannot be extended: {exc.strerror}; its lines are complete, and the same command without "
            "--overwrite continues after them"
        ) from exc


def _finished(target: Path, rows: Sequence[_Row]) -> list[dict[str, Any]]:
    """The complete lines of `target`, which must fit `rows`; removes an incomplete last line. Raises FileError."""
    if not target.is_file():  # it does not exist yet, or is a device
        return []
    content = target.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(content[:whole].split(b"\n")[:-1], 1):
        line = _result_of(rows[number - 1].fields, text) if number <= len(rows) else None
        if line is None:
            raise FileError(
                f"{target}, line {number}, is not a result of scoring this input. Use another output file, or "
                "--overwrite."
            )
        lines.append(line)
    if whole != len(content):
        if not lines:
            raise FileError(f"{target} is not a file of scored items. Use another output file, or --overwrite.")
        with target.open("r+b") as out:
            out.truncate(whole)
    return lines


def _result_of(row: dict[str, Any], line: bytes) -> dict[str, Any] | None:
    try:
        scored = json.loads(line)
    except ValueError:
        return None
    if not isinstance(scored, dict) or "result" not in scored or not isinstance(scored.get("scored_by"), dict):
        return None
    return scored if all(scored.get(key) == value for key, value in row.items()) else None
