"""Scores a file of rows through the service in batches; can be resumed.

    read_items ─▶ rows ─▶ score_batches ─▶ lines of JSON ─▶ OUT.jsonl, or score_output.py ─▶ OUT.csv
                 └ with keep_going: wrong rows are left out and named in `Progress.wrong`

Each row is written after its reward has been received, in the order of the input. A run that was stopped
continues after the last complete line, provided that the service still scores with the same recipe and models. A
full disk never damages lines that were written before.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from reward_client.client import RewardClient
from reward_client.errors import RewardError, RewardRejectedError
from reward_client.rows import FileError, first_of, numbered_rows, row_unit, sorted_out
from reward_client.same_scorer import check_same_result, check_same_scorer, scorer_of, scorer_of_lines
from reward_client.score_each import score_each, without_index
from reward_client.score_output import WRITTEN, append, encoded, finished, is_result_column, opened
from reward_client.wire import FieldError, Item, ItemError, ItemResult, ScoreReply, usable_references

_ITEM = re.compile(r"\bitems\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of scoring a file."""

    done: int
    total: int
    rows_per_s: float
    lines: Sequence[Mapping[str, Any]] = ()
    """The lines that were written since the last progress."""
    notices: Sequence[str] = ()
    wrong: Sequence[str] = ()
    """Rows that have no reward, each with its line in the input, found since the last progress."""
    span: str = ""
    """The rows of the last request, as a message names them."""
    seconds: float = 0.0
    """Time of that request."""

    def __str__(self) -> str:
        left_s = (self.total - self.done) / self.rows_per_s if self.rows_per_s else 0.0
        return f"{self.done}/{self.total} items, {self.rows_per_s:.1f} a second, {left_s:.0f} s left   "


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One row of the input."""

    number: int
    fields: dict[str, Any]
    item: Item


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """The outcome of a batch of rows."""

    rows: Sequence[ItemRow]
    reply: ScoreReply | None
    """None when no row could be scored."""
    results: Sequence[tuple[ItemRow, ItemResult]]
    """The rows with a reward, in order."""
    wrong: Sequence[str] = ()
    """The rows without one, each with its line in the input."""
    seconds: float = 0.0
    """Time until the service had answered."""


def _row(fields: dict[str, Any], number: int, *, is_written: Callable[[str], bool]) -> ItemRow:
    taken = list(filter(is_written, fields))
    if taken:
        raise ValueError(f"{taken[0]}: this command writes a field of that name; rename it, or remove it")
    known = {name: value for name, value in fields.items() if name in Item.model_fields}
    return ItemRow(number, fields, Item.model_validate(known))


def score_file(
    client: RewardClient,
    source: Path,
    target: Path,
    *,
    batch: int = 64,
    limit: int | None = None,
    overwrite: bool = False,
    keep_going: bool = False,
    as_table: bool = False,
    **options: Any,
) -> Iterator[Progress]:
    """Score `source` into `target`, yielding progress. Raises FileError, OutputError and RewardError.

    Args:
        client: sends the requests.
        source: file of items, or `STANDARD_STREAM`.
        target: JSONL file to write, or to continue; or `STANDARD_STREAM`.
        batch: number of items in a request.
        limit: number of rows that are read; None: all.
        overwrite: whether to replace `target`.
        keep_going: leave out rows that cannot be scored, instead of raising FileError for them.
        as_table: `target` becomes a table: rows must not have fields with the names of its further columns.
        options: those of `RewardClient.score`.
    """
    check_not_input(source, target)
    rows, wrong = read_items(
        source,
        limit,
        keep_going=keep_going,
        is_written=lambda name: name in WRITTEN or (as_table and is_result_column(name)),
    )
    before = {} if overwrite else finished(target, [row.fields for row in rows], skip=keep_going)
    scorer = scorer_of_lines(target, list(before.values()))
    if scorer is not None:
        telling = _one_of_each_kind(rows, before)
        again = _score(client, source, [rows[index] for index in telling], options)
        check_same_scorer(target, scorer, scorer_of(again))
        for index, result in zip(telling, again.results, strict=True):
            check_same_result(target, before[index]["result"], result)
    done = max(before, default=-1) + 1
    left_out = [row.number for index, row in enumerate(rows[:done]) if index not in before]
    wrong += [f"{source}, {row_unit(source)} {number}: an earlier run left it out" for number in left_out]
    yield Progress(done, len(rows), 0.0, list(before.values()), wrong=wrong)
    batches = score_batches(client, source, rows[done:], batch=batch, keep_going=keep_going, **options)
    yield from _write(source, target, batches, done, len(rows), scorer)


def _one_of_each_kind(rows: Sequence[ItemRow], indices: Iterable[int]) -> list[int]:
    """The first of the rows at `indices` with a reference, and without: options decide on them differently."""
    found: dict[bool, int] = {}
    for index in indices:
        found.setdefault(bool(usable_references(rows[index].item.reference)), index)
    return list(found.values())


def _write(
    source: Path,
    target: Path,
    batches: Iterator[ScoredBatch],
    first: int,
    total: int,
    scorer: dict[str, Any] | None,
) -> Iterator[Progress]:
    """Write `batches`, which begin with row `first`, to `target`, whose earlier lines are by `scorer`."""
    started, done = time.monotonic(), first
    with opened(target, "r+b" if first else "wb") as out:
        if first:
            out.seek(0, 2)
        for scored in batches:
            lines = _lines(scored)
            if scored.reply is not None:
                scorer = scorer or scorer_of(scored.reply)
                check_same_scorer(target, scorer, scorer_of(scored.reply))
                append(out, encoded(lines), target)
            done += len(scored.rows)
            rate = (done - first) / max(time.monotonic() - started, 1e-9)
            notices = scored.reply.notices if scored.reply else ()
            span = f"{row_unit(source)}s {scored.rows[0].number} to {scored.rows[-1].number}"
            yield Progress(done, total, rate, lines, notices, scored.wrong, span, scored.seconds)


def check_not_input(source: Path, target: Path) -> None:
    """Raise FileError if both are the same file."""
    if target.exists() and source.exists() and source.samefile(target):
        raise FileError(f"{target} is the input; choose another output file")


def read_items(
    source: Path,
    limit: int | None = None,
    *,
    keep_going: bool = False,
    is_written: Callable[[str], bool] = lambda _: False,
) -> tuple[list[ItemRow], list[str]]:
    """The rows of the input, and a message for each wrong one that `keep_going` leaves out. Raises FileError.

    A row is wrong if it has a field for which `is_written` is true, because that field would be lost.
    """
    numbered = islice(numbered_rows(source), limit)
    rows, wrong = sorted_out(str(source), numbered, partial(_row, is_written=is_written), unit=row_unit(source))
    if wrong and not keep_going:
        raise FileError(first_of(wrong))
    if not rows:
        raise FileError(
            f"{source} has no row that can be scored:\n{first_of(wrong)}" if wrong else f"{source} has no rows"
        )
    return rows, wrong


def score_batches(
    client: RewardClient,
    source: Path,
    rows: Sequence[ItemRow],
    *,
    batch: int = 64,
    keep_going: bool = False,
    **options: Any,
) -> Iterator[ScoredBatch]:
    """Score `rows` of `source` in batches; arguments as in `score_file`.

    Raises FileError and RewardError, after a batch of the rows whose rewards had been received.
    """
    for start in range(0, len(rows), batch):
        chosen, started = rows[start : start + batch], time.monotonic()
        try:
            if keep_going:  # rows that the service refuses are named in `wrong`
                results, reply = score_each(client, [row.item for row in chosen], **options)
            else:
                reply = _score(client, source, chosen, options)
                results = reply.results
        except (RewardError, FileError) as exc:
            received = _partial(exc)
            if received is not None:
                yield _batch(source, chosen, received, received.results, time.monotonic() - started)
            raise
        yield _batch(source, chosen, reply, results, time.monotonic() - started)


def _partial(exc: RewardError | FileError) -> ScoreReply | None:
    """What had been received of a batch; a FileError has it in the refusal that it names the lines of."""
    refusal = exc.__cause__ if isinstance(exc, FileError) else exc
    return refusal.partial if isinstance(refusal, RewardError) else None


def _batch(
    source: Path, rows: Sequence[ItemRow], reply: ScoreReply | None, results: Sequence[ItemResult], seconds: float
) -> ScoredBatch:
    """The batch of as many of the first `rows` as there are results."""
    pairs = list(zip(rows, results, strict=False))
    wrong = [_message(source, row, result.error) for row, result in pairs if result.error is not None]
    scored = [found for found in pairs if found[1].error is None]
    return ScoredBatch(rows[: len(pairs)], reply, scored, wrong, seconds)


def _message(source: Path, row: ItemRow, error: FieldError | ItemError) -> str:
    return f"{source}, {row_unit(source)} {row.number}: {without_index(error.field)}: {error.message}"


def _score(client: RewardClient, source: Path, rows: Sequence[ItemRow], options: dict[str, Any]) -> ScoreReply:
    """The reply to `rows`. Errors name their lines in `source` instead of their places in the request."""
    try:
        return client.score([row.item for row in rows], **options)
    except RewardRejectedError as exc:
        wrong = [(error.item, error) for error in exc.errors if error.item is not None]
        if not wrong:
            raise
        raise FileError("\n".join(_message(source, rows[item], error) for item, error in wrong)) from exc
    except RewardError as exc:
        unit = row_unit(source)
        error = RewardError(_ITEM.sub(lambda item: f"{unit} {rows[int(item[1])].number}, ", str(exc)))
        error.partial = exc.partial
        raise error from exc


def _lines(scored: ScoredBatch) -> list[dict[str, Any]]:
    if scored.reply is None:
        return []
    scored_by = scorer_of(scored.reply)
    return [row.fields | {"result": result.fields(), "scored_by": scored_by} for row, result in scored.results]
