"""What waits for one model, and what it is given next: decisions only, without clock, task or thread.

    admit(units) ──▶ entries, one for each key ──▶ take() ──▶ complete(entry, outcome) ──▶ finished tickets

A *ticket* is one caller's wish for several *units*; an *entry* is one unit of work, whoever wants it. Equal keys
share an entry while it waits and while it runs, so nothing is computed twice at the same time.

A batch is built around one entry, its *anchor*, from the waiting entries nearest to it in length, as long as its
padded tokens (longest × count) and its items fit. Anchors rotate over the tickets, and within one ticket go by
age: so short texts do not pay for long ones, no entry is passed over for ever, and a ticket waits at most one
batch for each ticket ahead of it, however large those are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["BatchLimits", "BatchQueue", "Entry", "Ticket", "Unit"]

_MANY = 32
"""Places from which on it is cheaper to go through the whole list once than to shift it for each."""

InT = TypeVar("InT")
OutT = TypeVar("OutT")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one forward pass may hold; a single item goes whatever its length."""

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
    """One caller's units, in order, and what is known of them."""

    outcomes: list[OutT | Exception | None]
    left: int
    """Units without an outcome."""
    shared: int = 0
    """Units that another ticket had asked for already."""
    open: bool = True
    """Whether the caller still waits."""
    entries: list[Entry[InT, OutT]] = field(default_factory=list)
    next_entry: int = 0
    """Entries before this one are not waiting any more."""


@dataclass(slots=True, eq=False)
class Entry(Generic[InT, OutT]):
    """One unit of work and who wants it: (ticket, position in it)."""

    unit: Unit[InT]
    number: int
    wanted_by: list[tuple[Ticket[InT, OutT], int]] = field(default_factory=list)
    waiting: bool = True

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among the waiting: by length, then by age."""
        return self.unit.n_tokens, self.number

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return any(ticket.open for ticket, _ in self.wanted_by)


class BatchQueue(Generic[InT, OutT]):
    """Entries that wait or run, and the order in which tickets get their turn."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Entry[InT, OutT]] = {}
        self._places: list[tuple[int, int]] = []
        self._at: dict[tuple[int, int], Entry[InT, OutT]] = {}
        self._turns: deque[Ticket[InT, OutT]] = deque()
        self._count = 0
        self.waiting_tokens = 0
        """Tokens, without padding, of the entries that wait."""

    @property
    def waiting_items(self) -> int:
        """Entries that wait."""
        return len(self._places)

    def admit(self, units: Sequence[Unit[InT]]) -> Ticket[InT, OutT]:
        """Take in all of a caller's units."""
        ticket: Ticket[InT, OutT] = Ticket([None] * len(units), left=len(units))
        new = []
        for position, unit in enumerate(units):
            entry = self._by_key.get(unit.key)
            if entry is None:
                entry = self._new_entry(unit)
                new.append(entry.place)
            else:
                ticket.shared += 1
            entry.wanted_by.append((ticket, position))
            ticket.entries.append(entry)
        self._insert(sorted(new))
        self._turns.append(ticket)
        return ticket

    def close(self, ticket: Ticket[InT, OutT]) -> None:
        """The caller has gone: forget what nobody else waits for."""
        ticket.open = False
        unwanted = [entry for entry in dict.fromkeys(ticket.entries) if entry.waiting and not entry.wanted]
        for entry in unwanted:
            entry.waiting = False
            self.waiting_tokens -= entry.unit.n_tokens
            del self._at[entry.place]
            del self._by_key[entry.unit.key]
        self._remove([entry.place for entry in unwanted])
        ticket.entries.clear()

    def take(self, limits: BatchLimits) -> list[Entry[InT, OutT]]:
        """Remove and return the next batch, shortest first; empty when nothing waits."""
        while self._turns:
            ticket = self._turns.popleft()
            anchor = _oldest_waiting(ticket)
            if anchor is not None:
                self._turns.append(ticket)
                return self._around(anchor, limits)
        return []

    def complete(self, entry: Entry[InT, OutT], outcome: OutT | Exception) -> list[Ticket[InT, OutT]]:
        """Give `outcome` to whoever wants `entry`; the tickets that now have all they asked for."""
        self._by_key.pop(entry.unit.key, None)
        finished = []
        for ticket, position in entry.wanted_by:
            ticket.outcomes[position] = outcome
            ticket.left -= 1
            if not ticket.left and ticket.open:
                finished.append(ticket)
        return finished

    def _new_entry(self, unit: Unit[InT]) -> Entry[InT, OutT]:
        self._count += 1
        entry: Entry[InT, OutT] = Entry(unit, self._count)
        self._by_key[unit.key] = entry
        self._at[entry.place] = entry
        self.waiting_tokens += unit.n_tokens
        return entry

    def _insert(self, places: list[tuple[int, int]]) -> None:
        """Put `places` in order among the waiting; many at once cost one merge, not a shift each."""
        if len(places) < _MANY:
            for place in places:
                insort(self._places, place)
        else:
            self._places += places
            self._places.sort()  # two runs, which sort merges

    def _remove(self, places: list[tuple[int, int]]) -> None:
        if len(places) < _MANY:
            for place in places:
                del self._places[bisect_left(self._places, place)]
        else:
            gone = set(places)
            self._places = [place for place in self._places if place not in gone]

    def _around(self, anchor: Entry[InT, OutT], limits: BatchLimits) -> list[Entry[InT, OutT]]:
        start, end = _span(self._places, bisect_left(self._places, anchor.place), limits)
        batch = [self._at.pop(place) for place in self._places[start:end]]
        del self._places[start:end]
        for entry in batch:
            entry.waiting = False
            self.waiting_tokens -= entry.unit.n_tokens
        return batch


def _span(places: Sequence[tuple[int, int]], anchor: int, limits: BatchLimits) -> tuple[int, int]:
    """Grow [start, end) from the anchor, each time by the neighbour nearer to it in length, while that fits."""
    start, end = anchor, anchor + 1
    here = places[anchor][0]
    while end - start < limits.max_items:
        count = end - start + 1
        shorter = (
            here - places[start - 1][0] if start and places[end - 1][0] * count <= limits.max_tokens else None
        )
        longer = (
            places[end][0] - here if end < len(places) and places[end][0] * count <= limits.max_tokens else None
        )
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
