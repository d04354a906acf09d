"""Memory of requests: one budget for bodies, for what is made of them, and for replies until they are sent.

    head ─▶ expect ─▶ each chunk: take ─▶ parsed, scored ─▶ keep (the reply) ─▶ sent: released
            413, 503, or held   └─ no room: waits, and its socket is not read meanwhile; 503 if that takes too long

What has been received counts, not what was declared: a declaration counts only against other requests of its
caller. Callers share the budget by `FairShare`. Bodies cannot wait for each other forever: the oldest of those
that wait gets what it still needs beside the budget, until its request has been answered; one body at a time.

A byte of a body is charged `BYTE_COST`, a string in it `STRING_COST` and a value `VALUE_COST`, because texts,
tokens and items take a multiple of the body. What only its items show, as several references, is taken when they
are known. Measured while a request waits for both models, per byte of its body: 2.5 for ASCII texts of
2,000 characters, 1.4 for texts of 4-byte characters, 0.7 if these are escaped, 6.5 for ASCII with one emoji, which
makes Python store 4 bytes a character. An item takes 2 kB beside its texts, so short ones take up to 120 times
their bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reward_service.errors import NoRoomError
from reward_service.fair_share import FairShare
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics

BYTE_COST = 4
"""Bytes charged for a byte of a body."""
STRING_COST = 600
"""Bytes charged for a string in a body, beside its own: an item has at least two strings."""
FURTHER_STRING_COST = 160
"""Bytes charged for a string when a body has more than `STRINGS_PER_ITEM` for each item that it may have."""
STRINGS_PER_ITEM = 16
VALUE_COST = 80
"""Bytes charged for a value in a body, by its comma or opening bracket: an empty list has 64, in two bytes."""
MAX_PAUSE_S = 10.0
"""Seconds that a request waits for memory in the middle, if its client is not held: long enough for another
request to end, short enough for a client that has to send all of it again."""
_RATE_WINDOW_S = 64
"""Seconds, among those in which memory was released, over which the release rate is measured."""


@dataclass(eq=False, slots=True)
class _Waiter:
    claim: MemoryClaim
    n_bytes: int
    granted: asyncio.Future[None]


class MemoryBudget:
    """At most `max_waiting_bytes` for all requests together, and one body beyond."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.byte_cost = BYTE_COST * max(1, len(settings.golds))
        """Bytes charged for a byte of a body, whose texts may have as many tokens for each gold model."""
        self._share = FairShare(settings.max_waiting_bytes)
        self._expected: Counter[str] = Counter()
        """Bytes that bodies being received will take as well, by caller."""
        self._waiting: dict[str, deque[_Waiter]] = {}
        """By caller, in order of arrival."""
        self._beside: MemoryClaim | None = None
        """What gets its memory beside the budget, and keeps its reply there while that has no room in it."""
        self._rate = _ReleaseRate(clock)
        self._claims = 0
        metrics.watch_memory(lambda: self._share.total + (self._beside.n_beside if self._beside else 0))

    @contextmanager
    def claim(self, caller: str) -> Iterator[MemoryClaim]:
        """The memory of one request of `caller`, released when the block ends."""
        self._claims += 1
        claim = MemoryClaim(self, caller, self._claims)
        try:
            yield claim
        finally:
            claim.release()

    # For `MemoryClaim` --------------------------------------------------------------------------------------

    def check(self, caller: str, n_bytes: int) -> None:
        """Raise NoRoomError if `n_bytes` more, after what the caller's other bodies will take, have no room."""
        expected = self._expected[caller]
        amount = expected + n_bytes
        if not self._share.allows(caller, amount) or (expected and amount > self._share.limit):
            raise self._refusal(caller, n_bytes)

    def expect(self, caller: str, n_bytes: int) -> None:
        """Count `n_bytes` as announced by `caller`; a negative number ends that."""
        self._expected[caller] += n_bytes
        if self._expected[caller] <= 0:
            del self._expected[caller]

    def try_take(self, claim: MemoryClaim, n_bytes: int) -> bool:
        """Whether there was room for `n_bytes` more; they are counted then, unless the request has ended."""
        if claim.is_released:
            return True
        queued = claim.caller in self._waiting
        if claim is not self._beside and (queued or not self._share.allows(claim.caller, n_bytes)):
            return False
        self._take(claim, n_bytes)
        return True

    async def wait(self, claim: MemoryClaim, n_bytes: int, max_wait_s: float) -> None:
        """Return when `n_bytes` are counted. Raises NoRoomError after `max_wait_s`."""
        waiter = _Waiter(claim, n_bytes, asyncio.get_running_loop().create_future())
        queue = self._waiting.setdefault(claim.caller, deque())
        queue.append(waiter)
        self._grant()
        try:
            async with asyncio.timeout(max_wait_s):
                await waiter.granted
        except TimeoutError:
            raise self._refusal(claim.caller, n_bytes) from None
        finally:
            if waiter in queue:
                queue.remove(waiter)
                self._grant()

    def add(self, claim: MemoryClaim, n_bytes: int) -> None:
        """Count `n_bytes` more, without a check; a negative number releases them."""
        if n_bytes > 0 and not self._share.total:
            self._rate.restart()
        claim.n_bytes += n_bytes
        self._share.add(claim.caller, n_bytes)
        if n_bytes < 0:
            self._rate.released(-n_bytes)
            self._grant()

    def keep(self, claim: MemoryClaim, n_bytes: int, *, is_reply: bool) -> None:
        """Count `n_bytes` for `claim` instead of what it held; a reply without room in the budget, beside it."""
        more = n_bytes - claim.n_bytes
        if claim is self._beside and not is_reply:
            self._beside, claim.n_beside = None, 0
        if claim is self._beside:
            claim.n_beside, claim.is_kept = max(more, 0), True
            self._move_beside()
        if claim is not self._beside and n_bytes != claim.n_bytes:
            self.add(claim, n_bytes - claim.n_bytes)
        self._grant()

    def _move_beside(self) -> None:
        """Count a reply that is kept beside the budget in it as soon as it has room."""
        claim = self._beside
        if claim is None or not claim.is_kept:
            return
        if not claim.n_beside or self._share.allows(claim.caller, claim.n_beside):
            self._beside, n_bytes, claim.n_beside = None, claim.n_beside, 0
            if n_bytes:
                self.add(claim, n_bytes)

    def _grant(self) -> None:
        """Serve the bodies that wait: what fits, by caller, and the oldest if none is beside the budget."""
        self._move_beside()
        for caller, queue in list(self._waiting.items()):
            while queue and (_has_ended(queue[0]) or self._share.allows(caller, queue[0].n_bytes)):
                self._serve(queue.popleft())
            if not queue:
                del self._waiting[caller]
        if self._waiting and self._beside is None:
            queue = min(self._waiting.values(), key=lambda waiters: waiters[0].claim.number)
            self._beside = queue[0].claim
            self._serve(queue.popleft())
            if not queue:
                del self._waiting[self._beside.caller]

    def _serve(self, waiter: _Waiter) -> None:
        if waiter.granted.done():
            return  # cancelled
        self._take(waiter.claim, waiter.n_bytes)
        waiter.granted.set_result(None)

    def _take(self, claim: MemoryClaim, n_bytes: int) -> None:
        if claim.is_released:
            return
        if claim is self._beside:
            claim.n_beside += n_bytes
        else:
            self.add(claim, n_bytes)

    def _refusal(self, caller: str, n_bytes: int) -> NoRoomError:
        total, limit = self._share.total, self._share.limit
        excess = total + n_bytes - limit
        return NoRoomError(
            f"requests hold {total:.0f} bytes of memory, {self._share.used(caller):.0f} of them this caller's; at "
            f"most {limit:.0f} are allowed, which callers share",
            retry_after_s=self._rate.seconds_for(min(max(excess, n_bytes), total)),
            caller_class=self._share.class_of(caller),
        )


class MemoryClaim:
    """The memory that one request holds."""

    def __init__(self, budget: MemoryBudget, caller: str, number: int) -> None:
        self.byte_cost = budget.byte_cost
        self.caller = caller
        self.number = number
        """In order of creation."""
        self.n_bytes = 0
        """What is counted for it in the budget."""
        self.n_beside = 0
        """What it holds beside the budget."""
        self.is_kept = False
        """Whether what it holds beside the budget is its reply."""
        self.is_released = False
        """Whether its request has ended; the work goes on if another one with its Idempotency-Key waits."""
        self._budget = budget
        self._expected = 0

    def expect(self, n_bytes: int) -> None:
        """Announce that the body will take `n_bytes`. Raises NoRoomError if they have no room now."""
        self._budget.check(self.caller, n_bytes)
        self._expect(n_bytes)

    async def take(self, n_bytes: int, max_wait_s: float) -> float:
        """Hold `n_bytes` more; the seconds that it took to get them. Raises NoRoomError after `max_wait_s`."""
        waited_s = 0.0
        if n_bytes and not self._budget.try_take(self, n_bytes):
            began = time.monotonic()
            await self._budget.wait(self, n_bytes, max_wait_s)
            waited_s = time.monotonic() - began
        if self._expected:
            self._expect(max(self._expected - n_bytes, 0))
        return waited_s

    def complete(self) -> None:
        """The body has been received."""
        self._expect(0)

    def keep(self, n_bytes: int, *, is_reply: bool = True) -> None:
        """Hold `n_bytes` from now on, instead of what was held: a reply, or the rest of an upload."""
        self.complete()
        self._budget.keep(self, n_bytes, is_reply=is_reply)

    def release(self) -> None:
        """Hold nothing, from now on. Idempotent."""
        self.is_released = True
        self.keep(0)

    def _expect(self, n_bytes: int) -> None:
        if n_bytes != self._expected:
            self._budget.expect(self.caller, n_bytes - self._expected)
            self._expected = n_bytes


def _has_ended(waiter: _Waiter) -> bool:
    """Whether nothing needs to be counted for `waiter`: it was cancelled, or its request has ended."""
    return waiter.granted.done() or waiter.claim.is_released


class _ReleaseRate:
    """Bytes per second that are released, since memory was last empty, in at most `_RATE_WINDOW_S` samples."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW_S)
        """Start of a second and the bytes released in it; the first sample only marks the start."""

    def restart(self) -> None:
        """Restart the measurement: nothing is held."""
        self._samples.clear()
        self._samples.append((self._clock(), 0))

    def released(self, n_bytes: int) -> None:
        """Count `n_bytes`."""
        start, so_far = self._samples[-1]
        if self._clock() - start < 1:
            self._samples[-1] = start, so_far + n_bytes
        else:
            self._samples.append((self._clock(), n_bytes))

    def seconds_for(self, n_bytes: float) -> float:
        """Estimated seconds until `n_bytes` more are released; 0 without a measurement."""
        if not self._samples:
            return 0.0
        (start, _), *later = self._samples
        return n_bytes * (self._clock() - start) / sum(n for _, n in later) if later else 0.0
