"""The queue of one model, and which items form the next batch. Pure: no clock, task or thread.

    admit(units) ──▶ entries, one for each key ──▶ take() ──▶ complete(entry, outcome) ──▶ finished tickets

A *ticket* has the *units* that one caller submitted. An *entry* is one unit of work, shared by all tickets that
have its key while it is queued and while it runs, so no unit is computed twice at the same time.

A batch is built around one entry, its *anchor*, from the queued entries nearest to it in length, as long as its
padded tokens (longest × count) and its items are within the limits. Anchors rotate over the tickets, oldest entry
first within a ticket. So short texts are not padded to the length of long ones, every entry runs eventually, and a
ticket waits at most one batch for each ticket ahead of it, regardless of their sizes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["BatchLimits", "BatchQueue", "Entry", "Ticket", "Unit"]

_BULK = 32
"""Number of insertions or removals above which one pass over the list is faster than a shift for each."""

InT = TypeVar("InT")
OutT = TypeVar("OutT")


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
class Ticket(Generic[InT, OutT]):
    """One caller's units, in order, and their outcomes."""

    outcomes: list[OutT | Exception | None]
    missing: int
    """Units without an outcome."""
    shared: int = 0
    """Units that were already queued for another ticket."""
    open: bool = True
    """Whether the caller still waits for the outcomes."""
    entries: list[Entry[InT, OutT]] = field(default_factory=list)
    in_rotation: bool = False
    next_entry: int = 0
    """Index into `entries`; all earlier ones have left the queue."""


@dataclass(slots=True, eq=False)
class Entry(Generic[InT, OutT]):
    """One unit of work, and the (ticket, position) pairs that wait for it."""

    unit: Unit[InT]
    number: int
    requested_by: list[tuple[Ticket[InT, OutT], int]] = field(default_factory=list)
    waiting: bool = True

    @property
    def sort_key(self) -> tuple[int, int]:
        """Position in the queue: by length, then by age."""
        return self.unit.n_tokens, self.number

    @property
    def wanted(self) -> bool:
        """Whether an open ticket waits for it."""
        return any(ticket.open for ticket, _ in self.requested_by)


class BatchQueue(Generic[InT, OutT]):
    """Entries that are queued or running, and the rotation of the tickets."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Entry[InT, OutT]] = {}
        self._sort_keys: list[tuple[int, int]] = []
        self._by_sort_key: dict[tuple[int, int], Entry[InT, OutT]] = {}
        self._rotation: deque[Ticket[InT, OutT]] = deque()
        self._count = 0
        self.waiting_items = 0
        """Number of queued entries."""
        self.waiting_tokens = 0
        """Tokens of the queued entries, without padding."""

    def admit(self, units: Sequence[Unit[InT]]) -> Ticket[InT, OutT]:
        """Queue all of a caller's units."""
        ticket = self.open(len(units))
        self.add(ticket, units)
        return ticket

    def open(self, n_units: int) -> Ticket[InT, OutT]:
        """A ticket for `n_units`, which `add` queues. It is complete when all of them have their outcomes."""
        return Ticket([None] * n_units, missing=n_units)

    def add(self, ticket: Ticket[InT, OutT], units: Sequence[Unit[InT]], start: int = 0) -> None:
        """Queue `units`, the first of which is the ticket's unit number `start`."""
        new = []
        for position, unit in enumerate(units, start):
            entry = self._by_key.get(unit.key)
            if entry is None:
                entry = self._new_entry(unit)
                new.append(entry.sort_key)
            else:
                ticket.shared += 1
            entry.requested_by.append((ticket, position))
            ticket.entries.append(entry)
        self._insert(sorted(new))
        if not ticket.in_rotation:
            ticket.in_rotation = True
            self._rotation.append(ticket)

    def close(self, ticket: Ticket[InT, OutT]) -> None:
        """Close the ticket of a caller, and remove its queued entries that no other ticket waits for."""
        ticket.open = False
        unwanted = [entry for entry in dict.fromkeys(ticket.entries) if entry.waiting and not entry.wanted]
        for entry in unwanted:
            entry.waiting = False
            self.waiting_tokens -= entry.unit.n_tokens
            del self._by_sort_key[entry.sort_key]
            del self._by_key[entry.unit.key]
        self._remove([entry.sort_key for entry in unwanted])
        ticket.entries.clear()

    def take(self, limits: BatchLimits) -> list[Entry[InT, OutT]]:
        """Remove and return the next batch, shortest entry first; empty when the queue is empty."""
        while self._rotation:
            ticket = self._rotation.popleft()
            anchor = _oldest_waiting(ticket)
            if anchor is not None:
                self._rotation.append(ticket)
                return self._batch_around(anchor, limits)
            ticket.in_rotation = False
        return []

    def complete(self, entry: Entry[InT, OutT], outcome: OutT | Exception) -> list[Ticket[InT, OutT]]:
        """Store `outcome` in the tickets of `entry`; return the open tickets that now have all outcomes."""
        self._by_key.pop(entry.unit.key, None)
        finished = []
        for ticket, position in entry.requested_by:
            ticket.outcomes[position] = outcome
            ticket.missing -= 1
            if not ticket.missing and ticket.open:
                ticket.entries.clear()
                finished.append(ticket)
        return finished

    def _new_entry(self, unit: Unit[InT]) -> Entry[InT, OutT]:
        self._count += 1
        entry: Entry[InT, OutT] = Entry(unit, self._count)
        self._by_key[unit.key] = entry
        self._by_sort_key[entry.sort_key] = entry
        self.waiting_tokens += unit.n_tokens
        return entry

    def _insert(self, keys: list[tuple[int, int]]) -> None:
        """Insert sorted `keys` into the sorted list; many at once by one merge."""
        self.waiting_items += len(keys)
        if len(keys) < _BULK:
            for key in keys:
                insort(self._sort_keys, key)
        else:
            self._sort_keys += keys
            self._sort_keys.sort()  # timsort merges the two sorted runs

    def _remove(self, keys: list[tuple[int, int]]) -> None:
        self.waiting_items -= len(keys)
        if len(keys) < _BULK:
            for key in keys:
                del self._sort_keys[bisect_left(self._sort_keys, key)]
        else:
            removed = set(keys)
            self._sort_keys = [key for key in self._sort_keys if key not in removed]

    def _batch_around(self, anchor: Entry[InT, OutT], limits: BatchLimits) -> list[Entry[InT, OutT]]:
        start, end = _span(self._sort_keys, bisect_left(self._sort_keys, anchor.sort_key), limits)
        batch = [self._by_sort_key.pop(key) for key in self._sort_keys[start:end]]
        del self._sort_keys[start:end]
        self.waiting_items -= len(batch)
        for entry in batch:
            entry.waiting = False
            self.waiting_tokens -= entry.unit.n_tokens
        return batch


def _span(keys: Sequence[tuple[int, int]], anchor: int, limits: BatchLimits) -> tuple[int, int]:
    """Grow [start, end) from the anchor, by the neighbour nearer to it in length, while the limits allow it."""
    start, end = anchor, anchor + 1
    length = keys[anchor][0]
    while end - start < limits.max_items:
        count = end - start + 1
        shorter = length - keys[start - 1][0] if start and keys[end - 1][0] * count <= limits.max_tokens else None
        longer = keys[end][0] - length if end < len(keys) and keys[end][0] * count <= limits.max_tokens else None
        if shorter is None and longer is None:
            break
        if longer is None or (shorter is not None and shorter <= longer):
            start -= 1
        else:
            end += 1
    return start, end


def _oldest_waiting(ticket: Ticket[InT, OutT]) -> Entry[InT, OutT] | None:
    while ticket.next_entry < len(ticket.entries):
        entry = ticket.entries[ticket.next_entry]
        if entry.waiting:
            return entry
        ticket.next_entry += 1
    return None
