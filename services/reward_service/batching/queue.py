"""The queue of one model, and which items form the next batch. It has no task or thread.

    add(units) ──▶ entries, one for each key ──▶ take() ──▶ complete(entry, outcome) ──▶ finished submissions

A *submission* has the *units* of one request. An *entry* is one unit of work, shared by all submissions that have
its key while it is queued and while it runs, so no unit is computed twice at the same time.

The next batch belongs to the *caller* that has been served the fewest tokens; its submissions take turns, oldest
entry first. The batch is built around that entry from the queued entries nearest to it in length, as long as its
padded tokens (longest × count) and its items are within the limits, so that short texts are not padded to the
length of long ones. Entries of other callers may join; those of callers that are a batch ahead get only the room
that is left. An entry that several callers wait for counts in full for each of them.

A caller that queues something after a pause starts where the most served caller is, but at most one batch after
the least served one. So it gains nothing by pausing, and waits about one batch for each other caller. This is
start-time fair queueing (Goyal, Vin & Cheng, IEEE/ACM Transactions on Networking 5, 1997) without a memory of
idle callers.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any, Generic, TypeVar

from reward_service.fair_share import FairShare

__all__ = ["BatchLimits", "BatchQueue", "Entry", "Submission", "Unit"]

_BULK = 32
"""Number of insertions or removals above which one pass over the list is faster than a shift for each."""

InT = TypeVar("InT")
OutT = TypeVar("OutT")
SortKey = tuple[int, int]
"""Position in the queue: by length in tokens, then by age."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of one forward pass. A single item above `max_tokens` runs alone."""

    max_tokens: int
    """Padded tokens: the longest item's, times the number of items."""
    max_items: int


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
    started: float | None = None
    """When the first batch with one of its units started."""
    model_s: float = 0.0
    """Seconds of all forward passes with units of this submission."""

    @property
    def queue_s(self) -> float:
        """Seconds from submission to the start of the first batch."""
        return (self.started or self.submitted) - self.submitted

    async def wait(self) -> None:
        """Return when each unit has its outcome. Raises NotReadyError if the worker ends before."""
        await self.finished.wait()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Remove the queued units that no other submission waits for. Idempotent."""
        self.queue.close(self)

    def oldest_waiting(self) -> Entry[Any, OutT] | None:
        """The oldest entry that is still queued."""
        while self.next_entry < len(self.entries):
            entry = self.entries[self.next_entry]
            if entry.waiting:
                return entry
            self.next_entry += 1
        return None


@dataclass(slots=True, eq=False)
class Entry(Generic[InT, OutT]):
    """One unit of work, and the (submission, position) pairs that wait for it."""

    unit: Unit[InT]
    sort_key: SortKey
    requested_by: list[tuple[Submission[OutT], int]] = field(default_factory=list)
    wanted_by: dict[_Caller, int] = field(default_factory=dict)
    """Requests by open submissions of each caller."""
    waiting: bool = True


@dataclass(slots=True, eq=False)
class _Caller:
    """A caller for whom entries are queued."""

    name: str
    served: int = 0
    """Tokens in batches, comparable among the callers that are waiting now."""
    keys: list[SortKey] = field(default_factory=list)
    """Of the queued entries that it waits for, sorted."""
    rotation: deque[Submission[Any]] = field(default_factory=deque)

    def anchor(self) -> Entry[Any, Any]:
        """The entry around which its next batch is built."""
        while (entry := self.rotation[0].oldest_waiting()) is None:
            self.rotation.popleft().in_rotation = False
        self.rotation.rotate(-1)
        return entry

    def shorter(self, key: SortKey) -> Iterator[SortKey]:
        """Its keys before `key`, nearest first."""
        return map(self.keys.__getitem__, range(bisect_left(self.keys, key) - 1, -1, -1))

    def longer(self, key: SortKey) -> Iterator[SortKey]:
        """Its keys from `key` on, nearest first."""
        return map(self.keys.__getitem__, range(bisect_left(self.keys, key), len(self.keys)))

    def insert(self, keys: list[SortKey]) -> None:
        """Add `keys`; many at once by one merge."""
        if len(keys) < _BULK:
            for key in keys:
                insort(self.keys, key)
        else:
            self.keys += sorted(keys)
            self.keys.sort()  # timsort merges the two sorted runs

    def remove(self, keys: list[SortKey]) -> None:
        """Remove the sorted `keys`."""
        at, n = bisect_left(self.keys, keys[0]), len(keys)
        if self.keys[at + n - 1] == keys[-1]:
            del self.keys[at : at + n]
        elif n < _BULK:
            for key in keys:
                del self.keys[bisect_left(self.keys, key)]
        else:
            removed = set(keys)
            self.keys = [key for key in self.keys if key not in removed]


class BatchQueue(Generic[InT, OutT]):
    """Entries that are queued or running, and the rotation of callers and submissions."""

    def __init__(self, max_items: float = math.inf) -> None:
        self.items = FairShare(max_items)
        """Queued entries by caller, and those expected from requests in preparation, which the worker adds."""
        self.tokens = FairShare(math.inf)
        """Their tokens, without padding."""
        self.open: set[Submission[OutT]] = set()
        """Submissions that are neither finished nor closed."""
        self.waiting_tokens = 0
        """Tokens of the queued entries, without padding."""
        self._callers: dict[str, _Caller] = {}
        self._by_key: dict[Hashable, Entry[InT, OutT]] = {}
        self._by_sort_key: dict[SortKey, Entry[InT, OutT]] = {}
        self._count = 0
        self._batch_tokens = 0

    @property
    def waiting_items(self) -> int:
        """Number of queued entries."""
        return len(self._by_sort_key)

    @property
    def waiting_callers(self) -> int:
        """Number of callers for whom entries are queued."""
        return len(self._callers)

    def admit(self, units: Sequence[Unit[InT]], caller: str = "") -> Submission[OutT]:
        """Queue all units of a request."""
        submission = self.new_submission(len(units), caller)
        self.add(submission, units)
        return submission

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
        caller = self._callers.get(submission.caller) or _Caller(submission.caller)
        new = []
        for position, unit in enumerate(units, start):
            entry = self._by_key.get(unit.key)
            if entry is None:
                entry = self._new_entry(unit)
            else:
                submission.shared += 1
            entry.requested_by.append((submission, position))
            submission.entries.append(entry)
            if entry.waiting:
                requests = entry.wanted_by.get(caller, 0)
                entry.wanted_by[caller] = requests + 1
                if not requests:
                    new.append(entry.sort_key)
        if new:
            caller.insert(new)
            self._count_for(caller, new, 1)
        if caller.keys:
            self._rotate(caller, submission)

    def close(self, submission: Submission[OutT]) -> None:
        """Remove the queued entries that no other submission waits for. Idempotent."""
        if submission not in self.open:
            return
        self.open.discard(submission)
        caller = self._callers.get(submission.caller)
        left = [entry for entry in submission.entries if entry.waiting and caller and _leave(entry, caller)]
        submission.entries.clear()
        for entry in left:
            if not entry.wanted_by:
                entry.waiting = False
                self.waiting_tokens -= entry.unit.n_tokens
                del self._by_sort_key[entry.sort_key]
                del self._by_key[entry.unit.key]
        if caller and left:
            self._remove(caller, sorted(entry.sort_key for entry in left))

    def take(self, limits: BatchLimits) -> list[Entry[InT, OutT]]:
        """Remove and return the next batch, shortest entry first; empty when the queue is empty."""
        if not self._callers:
            return []
        self._batch_tokens = limits.max_tokens
        caller = min(self._callers.values(), key=attrgetter("served"))
        batch = [self._by_sort_key.pop(key) for key in self._batch_of(caller, limits)]
        taken: defaultdict[_Caller, list[SortKey]] = defaultdict(list)
        for entry in batch:
            entry.waiting = False
            self.waiting_tokens -= entry.unit.n_tokens
            for waiting in entry.wanted_by:
                taken[waiting].append(entry.sort_key)
        for waiting, keys in taken.items():
            waiting.served += _tokens(keys)
            self._remove(waiting, keys)
        return batch

    def complete(self, entry: Entry[InT, OutT], outcome: OutT | Exception) -> None:
        """Store `outcome` in the submissions of `entry`; those that now have all outcomes are finished."""
        self._by_key.pop(entry.unit.key, None)
        for submission, position in entry.requested_by:
            submission.outcomes[position] = outcome
            submission.missing -= 1
            if not submission.missing and submission in self.open:
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
        self._by_sort_key[entry.sort_key] = entry
        self.waiting_tokens += unit.n_tokens
        return entry

    def _rotate(self, caller: _Caller, submission: Submission[OutT]) -> None:
        """Put the submission, and a caller that was idle, into the rotation."""
        if caller.name not in self._callers:
            if served := [other.served for other in self._callers.values()]:
                caller.served = min(max(served), min(served) + self._batch_tokens)
            self._callers[caller.name] = caller
        if not submission.in_rotation:
            submission.in_rotation = True
            caller.rotation.append(submission)

    def _remove(self, caller: _Caller, keys: list[SortKey]) -> None:
        """Remove the sorted `keys` of entries that have left the queue, or that `caller` no longer waits for."""
        caller.remove(keys)
        self._count_for(caller, keys, -1)
        if not caller.keys:
            del self._callers[caller.name]
            for submission in caller.rotation:
                submission.in_rotation = False

    def _count_for(self, caller: _Caller, keys: list[SortKey], sign: int) -> None:
        self.items.add(caller.name, sign * len(keys))
        self.tokens.add(caller.name, sign * _tokens(keys))

    def _batch_of(self, caller: _Caller, limits: BatchLimits) -> list[SortKey]:
        """Keys of the batch around the next entry of `caller`, with other callers' entries."""
        anchor = caller.anchor().sort_key
        if len(self._callers) == 1:
            return _grow([anchor], [caller], anchor, limits)
        limit = caller.served + limits.max_tokens
        others = (c for c in self._callers.values() if c is not caller and c.served <= limit)
        near = [caller, *islice(others, limits.max_items)]
        batch = _grow([anchor], near, anchor, limits)
        if len(batch) == sum(len(c.keys) for c in near) < limits.max_items:
            ahead = (c for c in self._callers.values() if c.served > limit)
            batch = _grow(batch, islice(ahead, limits.max_items), anchor, limits)
        return batch


_NO_OUTCOME = RuntimeError("this unit has no outcome yet")


def _tokens(keys: Iterable[SortKey]) -> int:
    return sum(n_tokens for n_tokens, _ in keys)


def _leave(entry: Entry[Any, Any], caller: _Caller) -> bool:
    """Withdraw one request of `caller` for `entry`; whether it was its last."""
    requests = entry.wanted_by[caller] - 1
    if requests:
        entry.wanted_by[caller] = requests
        return False
    del entry.wanted_by[caller]
    return True


def _grow(batch: list[SortKey], callers: Iterable[_Caller], anchor: SortKey, limits: BatchLimits) -> list[SortKey]:
    """Add keys of `callers` to the sorted `batch`, nearest to `anchor` in length first, within the limits."""
    callers, taken = list(callers), set(batch)
    length, longest = anchor[0], batch[-1][0]
    all_shorter = merge(*(caller.shorter(anchor) for caller in callers), reverse=True)
    all_longer = merge(*(caller.longer(anchor) for caller in callers))
    shorter, longer = next(all_shorter, None), next(all_longer, None)
    while (count := len(taken) + 1) <= limits.max_items and longest <= (room := limits.max_tokens // count):
        if longer is not None and longer[0] > room:
            longer = None
        if shorter is not None and (longer is None or length - shorter[0] <= longer[0] - length):
            taken.add(shorter)
            shorter = next(all_shorter, None)
        elif longer is not None:
            taken.add(longer)
            longest = max(longest, longer[0])
            longer = next(all_longer, None)
        else:
            break
    return sorted(taken)
