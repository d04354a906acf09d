"""Scores the rows of a table in batches.

    read(start, stop) ─▶ samples ─▶ all checked ─▶ items of a batch ─▶ service ─▶ ScoreColumns

Rows are read twice, for the check and for their batch, so that memory holds the items of one
batch only. When the service fails, or the user stops, the error has the table of what was received.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reward_client.adapters.samples import Sample
from reward_client.client import RewardClient
from reward_client.errors import RewardError, RewardRejectedError
from reward_client.notices import join_notices
from reward_client.operations import check_same_reward, reindex
from reward_client.rows import first_of
from reward_client.score_each import score_each, without_index
from reward_client.score_file import Progress
from reward_client.tables.columns import ScoreColumns
from reward_client.wire import Item, ItemResult, ScoreReply

Read = Callable[[int, int], Mapping[str, Sequence[Any]]]
"""The rows from `start` to before `stop`: the values of each field of an item."""
ShowProgress = Callable[[Progress], object]


def show_progress(progress: Progress) -> None:
    """Write the progress to standard error on one line, and after the last batch the notices of the service."""
    sys.stderr.write(f"\r{progress}")
    if progress.done == progress.total:
        sys.stderr.writelines(["\n", *(f"note: {notice}\n" for notice in progress.notices)])
    sys.stderr.flush()


@dataclass(slots=True)
class TableScorer:
    """Scores one table; the arguments are those of `score_frame`."""

    client: RewardClient
    read: Read
    n_rows: int
    batch: int
    keep_going: bool
    progress: ShowProgress | None
    options: dict[str, Any]
    make: Callable[[dict[str, list[Any]]], Any]
    """The table with the columns of the scores."""
    _first: ScoreReply | None = field(default=None, init=False)
    """The first reply, without its rewards: recipe and models of all."""

    def table(self) -> Any:
        """Score all rows. Raises ValueError and RewardError."""
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, not {self.batch}")
        found = ScoreColumns(self.n_rows, gold=bool(self.options.get("gold")))
        self._check(found)
        try:
            self._score_all(found)
        except (RewardError, KeyboardInterrupt) as exc:
            self._keep_received(found, exc)
            raise
        return self.make(found.columns)

    def _score_all(self, found: ScoreColumns) -> None:
        started, notices = time.monotonic(), list[str]()
        for rows in self._batches():
            reply = self._score(rows, found)
            notices = join_notices(notices, reply.notices if reply else ())
            if self.progress is not None:
                rate = rows.stop / max(time.monotonic() - started, 1e-9)
                self.progress(Progress(rows.stop, self.n_rows, rate, notices=tuple(notices)))

    def _keep_received(self, found: ScoreColumns, exc: RewardError | KeyboardInterrupt) -> None:
        """Give the exception the table of the rewards received so far, and a note that says so."""
        exc.scored = None  # type: ignore[union-attr]
        if n_scored := found.n_scored:
            found.set_missing(f"not scored: {str(exc) or 'stopped'}")
            exc.scored = self.make(found.columns)  # type: ignore[union-attr]
            exc.add_note(
                f"{n_scored} of {self.n_rows} rows have their rewards: the attribute `scored` of this exception "
                "is the table with them, in a notebook `sys.last_value.scored`"
            )

    def _batches(self) -> Iterator[range]:
        for start in range(0, self.n_rows, self.batch):
            yield range(start, min(start + self.batch, self.n_rows))

    def _check(self, found: ScoreColumns) -> None:
        """Give wrong rows their error, and raise ValueError for them without `keep_going`."""
        wrong = []
        for rows in self._batches():
            for row, sample in self._samples(rows):
                if isinstance(made := _item(sample), str):
                    found.set_error(row, made, sample.query_type)
                    wrong.append(f"row {row}: {made}")
        if wrong and not self.keep_going:
            raise ValueError(first_of(wrong))

    def _samples(self, rows: range) -> Iterator[tuple[int, Sample]]:
        part = self.read(rows.start, rows.stop)
        for index, row in enumerate(rows):
            yield row, Sample(**{name: values[index] for name, values in part.items()})

    def _score(self, rows: range, found: ScoreColumns) -> ScoreReply | None:
        """Score the rows that have no error, and return the reply."""
        made = {row: _item(sample) for row, sample in self._samples(rows)}
        items = {row: item for row, item in made.items() if isinstance(item, Item)}
        try:
            if self.keep_going:
                results, reply = score_each(self.client, list(items.values()), **self.options)
            else:
                reply = self._all(list(items.values()), rows.start)
                results = reply.results
        except RewardError as exc:
            if exc.partial is not None:
                self._add(items, exc.partial, exc.partial.results, found)
            raise
        self._add(items, reply, results, found)
        return reply

    def _add(
        self,
        items: Mapping[int, Item],
        reply: ScoreReply | None,
        results: Sequence[ItemResult],
        found: ScoreColumns,
    ) -> None:
        """Add the results of the first of `items`, by row, which the same recipe and models must have scored."""
        if reply is not None:
            self._first = self._first or reply.model_copy(update={"results": [], "rewards": []})
            check_same_reward(self._first, reply)
        for (row, item), result in zip(items.items(), results, strict=False):
            if result.error is None:
                found.set_result(row, result)
            else:
                error = f"{without_index(result.error.field)}: {result.error.message}"
                found.set_error(row, error, item.query_type)

    def _all(self, items: Sequence[Item], start: int) -> ScoreReply:
        try:
            return self.client.score(items, **self.options)
        except RewardRejectedError as exc:
            error = RewardRejectedError(reindex(exc.problem, start))
            error.partial = exc.partial
            raise error from exc


def _item(sample: Sample) -> Item | str:
    """The item of a row, or what is wrong with it."""
    try:
        return sample.item(labels=False)
    except ValueError as exc:
        return str(exc)
