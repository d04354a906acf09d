"""The callers of one model: what each has waiting, and whose entries are next. No task, clock or thread.

The next batch belongs to the caller that has been served the fewest tokens; its submissions take turns, oldest
entry first. The batch is built around that entry from the caller's entries nearest to it in length, as long as
its padded tokens (longest × count) and its items are within the limits, so that short texts are not padded to
the length of long ones. Room that is left is filled with entries of other callers.

A forward pass cannot be interrupted, so that a caller with little work, a quarter of a batch or less, would wait
for full batches of others. Therefore callers with more work only fill the batches of others to a quarter; and for
some time after a caller with little work was served beside others, their own batches are short too. An entry that
several callers wait for counts in full for each of them.

This is start-time fair queueing (Goyal, Vin & Cheng, IEEE/ACM Transactions on Networking 5, 1997): a caller
that queues something after a pause starts where the batch that runs now began, but not before its own earlier
work. So it is next, and gains nothing by pausing. A caller that is not remembered starts where the most served
one is.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Protocol

from cachetools import LRUCache

from reward_service.batching.reservations import Reservations
from reward_service.fair_share import FairShare

_BULK = 32
"""Number of insertions or removals above which one pass over the list is faster than a shift for each."""
_CALLERS = 1024
"""Callers of which the tokens served are remembered; others are treated as new."""
_SHORT_TOKENS, _SHORT_ITEMS = 4, 2
"""A short batch has one of this many parts of a full one's tokens, and of its items. On two cores the encoder then
has 0.95 of its speed, and 0.85 with texts of 128 tokens."""
_EXPECTED_BATCHES = 16
"""Full batches of tokens for which a caller with little work is expected back."""
_EXPECTED_CALLERS = 16
"""Callers with little work that are remembered: the last ones."""
SortKey = tuple[int, int]
"""Position of an entry: by length in tokens, then by age."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of one forward pass. A single item above `max_tokens` runs alone."""

    max_tokens: int
    """Padded tokens: the longest item's, times the number of items."""
    max_items: int


class Turn(Protocol):
    """A submission, as far as the rotation of its caller needs it."""

    in_rotation: bool

    def oldest_waiting(self) -> SortKey | None:
        """Its oldest entry that is still queued."""
        ...


@dataclass(slots=True, eq=False)
class Caller:
    """A caller, and the queued entries that it waits for."""

    name: str
    served: int = 0
    """Tokens in batches, comparable among the callers that are waiting now."""
    began: int = 0
    """`served` when it began to wait."""
    keys: list[SortKey] = field(default_factory=list)
    """Of its entries, sorted."""
    tokens: int = 0
    """Of its entries, without padding."""
    rotation: deque[Turn] = field(default_factory=deque)

    def anchor(self) -> SortKey:
        """The entry around which its next batch is built."""
        while (key := self.rotation[0].oldest_waiting()) is None:
            self.rotation.popleft().in_rotation = False
        self.rotation.rotate(-1)
        return key

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


class Callers:
    """The callers for whom entries are queued, or are expected."""

    def __init__(self, max_items: float) -> None:
        self.items = FairShare(max_items)
        """Queued entries, and those expected, by caller."""
        self.reservations = Reservations(self.items)
        """Of requests that are not prepared yet."""
        self._waiting: dict[str, Caller] = {}
        self._tokens = 0
        """Of all of them."""
        self._served: LRUCache[str, int] = LRUCache(_CALLERS)
        """`served` of callers that pause."""
        self._batch_start = 0
        """`served` of the caller of the last batch before that batch."""
        self._taken = 0
        """Tokens of all batches."""
        self._short_tokens = 0
        """Of the limits of the last batch."""
        self._expected: dict[str, int] = {}
        """Callers whose little work was done while others waited, the last one last: `_taken` at that time."""

    def __len__(self) -> int:
        """Number of callers for whom entries are queued."""
        return len(self._waiting)

    def find(self, name: str) -> Caller:
        """The caller, who is a new one if nothing is queued for it."""
        return self._waiting.get(name) or Caller(name)

    def insert(self, caller: Caller, keys: list[SortKey], submission: Turn) -> None:
        """Count new entries that `caller` waits for, and put their submission into its rotation."""
        if keys:
            caller.insert(keys)
            tokens = _tokens(keys)
            caller.tokens += tokens
            self._tokens += tokens
            self.items.add(caller.name, len(keys))
        if not caller.keys:
            return
        if caller.name not in self._waiting:
            most = max(map(_served, self._waiting.values()), default=0)
            caller.served = caller.began = max(self._batch_start, self._served.get(caller.name, most))
            self._waiting[caller.name] = caller
        if not submission.in_rotation:
            submission.in_rotation = True
            caller.rotation.append(submission)

    def remove(self, caller: Caller, keys: list[SortKey]) -> None:
        """Forget the sorted `keys` of entries that run, or that `caller` no longer waits for."""
        caller.remove(keys)
        tokens = _tokens(keys)
        caller.tokens -= tokens
        self._tokens -= tokens
        self.items.add(caller.name, -len(keys))
        if not caller.keys:
            del self._waiting[caller.name]
            self._served[caller.name] = caller.served
            for submission in caller.rotation:
                submission.in_rotation = False

    def serve(self, caller: Caller, keys: list[SortKey]) -> None:
        """Remove the sorted `keys` of entries that run."""
        caller.served += _tokens(keys)
        self.remove(caller, keys)
        if not caller.keys and self._waiting and caller.served - caller.began <= self._short_tokens:
            self._expected.pop(caller.name, None)
            self._expected[caller.name] = self._taken
            if len(self._expected) > _EXPECTED_CALLERS:
                del self._expected[next(iter(self._expected))]

    def next_batch(self, limits: BatchLimits) -> list[SortKey]:
        """Keys of the next batch, sorted. Something must be queued."""
        caller = min(self._waiting.values(), key=_served)
        self._batch_start = caller.served
        anchor = caller.anchor()
        short = BatchLimits(limits.max_tokens // _SHORT_TOKENS, max(1, limits.max_items // _SHORT_ITEMS))
        self._short_tokens = short.max_tokens
        own = short if self._expects_another(caller, limits) else limits
        batch, n_offered = _grow([anchor], [caller], anchor, own), len(caller.keys)
        for has_much, room in ((False, limits), (True, short)):
            if len(batch) < n_offered:
                break
            others = (
                c for c in self._waiting.values() if c is not caller and (c.tokens > short.max_tokens) is has_much
            )
            added = list(islice(others, limits.max_items))
            batch = _grow(batch, added, anchor, room)
            n_offered += sum(len(other.keys) for other in added)
        self._taken += _tokens(batch)
        return batch

    def _expects_another(self, caller: Caller, limits: BatchLimits) -> bool:
        since = self._taken - _EXPECTED_BATCHES * limits.max_tokens
        return any(at >= since and name != caller.name for name, at in self._expected.items())

    def tokens_until_done(self, name: str) -> float:
        """Tokens that the model computes until the waiting work of `name` is done, if the callers take turns."""
        own = self.find(name).tokens + self.reservations.tokens.used(name)
        if own == 0:
            return 0.0
        return min(own * self.items.callers, self._tokens + self.reservations.tokens.total)


_served = attrgetter("served")


def _tokens(keys: Iterable[SortKey]) -> int:
    return sum(n_tokens for n_tokens, _ in keys)


def _grow(batch: list[SortKey], callers: Iterable[Caller], anchor: SortKey, limits: BatchLimits) -> list[SortKey]:
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
