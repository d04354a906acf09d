"""The queue of one model: the entries that wait or run, and the submissions that want them. No task or thread.

    add(units) ──▶ entries, one for each key ──▶ take() ──▶ complete(entry, outcome) ──▶ finished submissions

A *submission* has the *units* of one request. An *entry* is one unit of work, shared by all submissions that have
its key while it is queued and while it runs, so no unit is computed twice at the same time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from reward_service.batching.callers import BatchLimits, Caller, Callers, SortKey

InT = TypeVar("InT")
OutT = TypeVar("OutT")


@dataclass(frozen=True, slots=True)
class Unit(Generic[InT]):
    """One item for a model."""

    key: Hashable
    """Units with equal keys have equal results."""
    value: InT
    n_tokens: int


@dataclass(slots=True, eq=False)
class Submission(Generic[OutT]):
    """The units of one request, in order, and their outcomes. It must be closed, also after an error."""

    queue: BatchQueue[Any, OutT]
    caller: str
    outcomes: list[OutT | Exception]
    """For each unit its result, or the error of the model; complete when `wait` has returned."""
    missing: int
    """Units without an outcome."""
    shared: int = 0
    """Units that were already queued for another submission."""
    entries: list[Entry[Any, OutT]] = field(default_factory=list)
    next_entry: int = 0
    """Index into `entries`; all earlier ones have left the queue."""
    in_rotation: bool = False
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    """Why there will be no more outcomes."""
    submitted: float = field(default_factory=time.monotonic)
    queue_s: float | None = None
    """Seconds from submission to the start of the first batch with one of its units."""
    model_s: float = 0.0
    """Seconds of all forward passes with units of this submission."""

    async def wait(self) -> None:
        """Return when each unit has its outcome. Raises NotReadyError if the worker ends before."""
        await self.finished.wait()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Remove the queued units that no other submission waits for. Idempotent."""
        self.queue.close(self)

    def oldest_waiting(self) -> SortKey | None:
        """The oldest entry that is still queued."""
        while self.next_entry < len(self.entries):
            entry = self.entries[self.next_entry]
            if entry.waiting:
                return entry.sort_key
            self.next_entry += 1
        return None


@dataclass(slots=True, eq=False)
class Entry(Generic[InT, OutT]):
    """One unit of work."""

    unit: Unit[InT]
    sort_key: SortKey
    positions: dict[Submission[OutT], list[int]] = field(default_factory=dict)
    """Where each open submission wants the outcome; a submission may have equal units."""
    wanted_by: dict[Caller, int] = field(default_factory=dict)
    """Number of these submissions by caller, while the entry is queued."""
    waiting: bool = True
    abandoned: Callable[[], None] | None = None
    """Called when the entry runs and no submission wants its outcome any more."""


class BatchQueue(Generic[InT, OutT]):
    """Entries that are queued or running, and the submissions that wait for them."""

    def __init__(self, max_items: float = math.inf) -> None:
        self.callers = Callers(max_items)
        self.open: set[Submission[OutT]] = set()
        """Submissions that are neither finished nor closed."""
        self.waiting_tokens = 0
        """Tokens of the queued entries, without padding."""
        self._by_key: dict[Hashable, Entry[InT, OutT]] = {}
        self.waiting: dict[SortKey, Entry[InT, OutT]] = {}
        """The queued entries."""
        self._count = 0

    def new_submission(self, n_units: int, caller: str = "") -> Submission[OutT]:
        """A submission of `n_units`, which `add` queues."""
        no_outcomes: list[OutT | Exception] = [_NO_OUTCOME] * n_units
        submission = Submission(self, caller, no_outcomes, n_units)
        if n_units:
            self.open.add(submission)
        else:
            submission.finished.set()
        return submission

    def add(self, submission: Submission[OutT], units: Sequence[Unit[InT]], start: int = 0) -> None:
        """Queue `units`, the first of which is the submission's unit number `start`."""
        caller = self.callers.find(submission.caller)
        new = []
        for position, unit in enumerate(units, start):
            entry = self._by_key.get(unit.key)
            if entry is None:
                entry = self._new_entry(unit)
            else:
                submission.shared += 1
            if (positions := entry.positions.get(submission)) is not None:
                positions.append(position)
                continue
            entry.positions[submission] = [position]
            submission.entries.append(entry)
            if entry.waiting:
                wanting = entry.wanted_by.get(caller, 0)
                entry.wanted_by[caller] = wanting + 1
                if not wanting:
                    new.append(entry.sort_key)
        self.callers.insert(caller, new, submission)

    def close(self, submission: Submission[OutT]) -> None:
        """Remove the queued entries that no other submission waits for. Idempotent."""
        if submission not in self.open:
            return
        self.open.discard(submission)
        caller = self.callers.find(submission.caller)
        for entry in submission.entries:
            del entry.positions[submission]
            if entry.abandoned is not None and not entry.positions:
                entry.abandoned()
        left = [entry for entry in submission.entries if entry.waiting and _leave(entry, caller)]
        submission.entries.clear()
        for entry in left:
            if not entry.wanted_by:
                entry.waiting = False
                self.waiting_tokens -= entry.unit.n_tokens
                del self.waiting[entry.sort_key]
                del self._by_key[entry.unit.key]
        if left:
            self.callers.remove(caller, sorted(entry.sort_key for entry in left))

    def take(self, limits: BatchLimits) -> list[Entry[InT, OutT]]:
        """Remove and return the next batch, shortest entry first; empty when the queue is empty."""
        if not self.waiting:
            return []
        batch = [self.waiting.pop(key) for key in self.callers.next_batch(limits)]
        taken: defaultdict[Caller, list[SortKey]] = defaultdict(list)
        for entry in batch:
            entry.waiting = False
            self.waiting_tokens -= entry.unit.n_tokens
            for waiting in entry.wanted_by:
                taken[waiting].append(entry.sort_key)
        for waiting, keys in taken.items():
            self.callers.serve(waiting, keys)
        return batch

    def complete(self, entry: Entry[InT, OutT], outcome: OutT | Exception) -> None:
        """Store `outcome` in the submissions of `entry`; those that now have all outcomes are finished."""
        self._by_key.pop(entry.unit.key, None)
        for submission, positions in entry.positions.items():
            for position in positions:
                submission.outcomes[position] = outcome
            submission.missing -= len(positions)
            if not submission.missing:
                self.open.discard(submission)
                submission.entries.clear()
                submission.finished.set()

    def fail(self, error: Exception) -> None:
        """Finish all open submissions with `error`."""
        for submission in self.open:
            submission.error = error
            submission.finished.set()

    def _new_entry(self, unit: Unit[InT]) -> Entry[InT, OutT]:
        self._count += 1
        entry: Entry[InT, OutT] = Entry(unit, (unit.n_tokens, self._count))
        self._by_key[unit.key] = entry
        self.waiting[entry.sort_key] = entry
        self.waiting_tokens += unit.n_tokens
        return entry


_NO_OUTCOME = RuntimeError("this unit has no outcome yet")


def _leave(entry: Entry[Any, Any], caller: Caller) -> bool:
    """A submission of `caller` no longer wants `entry`; whether it was its last."""
    wanting = entry.wanted_by[caller] - 1
    if wanting:
        entry.wanted_by[caller] = wanting
        return False
    del entry.wanted_by[caller]
    return True
