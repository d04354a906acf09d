"""Time budget of one attempt, phase by phase: httpx limits each pause in a phase, this limits the whole phase.

    pool ── connect ── write ── read (head and body of the response)     each within its limit in `SendRequest`
    └───────── all together: the time left until the deadline ─────┘

So a server that sends one byte now and then cannot extend a call. `async_deadline` cancels an asynchronous
attempt. `sync_deadline` sets the budget that `transport` checks at each read and write of a socket.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import httpx

from reward_client.flow import SendRequest

Phase = Literal["pool", "connect", "write", "read"]
"""`pool`: waiting for a free connection, which is not a failure of the service."""

_ERRORS: dict[Phase, type[httpx.TimeoutException]] = {
    "pool": httpx.PoolTimeout,
    "connect": httpx.ConnectTimeout,
    "write": httpx.WriteTimeout,
    "read": httpx.ReadTimeout,
}
_UNFINISHED: dict[Phase, str] = {
    "pool": "no connection was free",
    "connect": "not connected",
    "write": "the request was not sent",
    "read": "the response was not complete",
}
_FIRST_EVENTS: dict[str, Phase] = {
    "connect_tcp.started": "connect",
    "connect_unix_socket.started": "connect",
    "send_request_headers.started": "write",
    "receive_response_headers.started": "read",
}
"""Events of httpx's `trace` extension with which a phase begins, without the prefix for the protocol."""


class TimeBudget:
    """The time left for an attempt."""

    def __init__(self, step: SendRequest, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.phase: Phase = "pool"
        """The phase that began last."""
        self._total_s = float("inf") if step.left_s is None else step.left_s
        self._end_s = clock() + self._total_s
        self._limits_s: dict[Phase, float] = {
            "pool": float("inf"),
            "connect": step.connect_timeout_s,
            "write": step.read_timeout_s,
            "read": step.read_timeout_s,
        }
        self._phase_end_s = float("inf")

    def left_s(self, phase: Phase) -> float:
        """Seconds left for `phase`, which begins now if another phase was the last one; may be negative."""
        now_s = self._clock()
        if phase != self.phase:  # with a proxy, connect, write and read occur twice
            self.phase, self._phase_end_s = phase, now_s + self._limits_s[phase]
        return min(self._end_s, self._phase_end_s) - now_s

    def check(self, phase: Phase) -> float:
        """Seconds left for `phase`. Raises the phase's httpx.TimeoutException when its time is over."""
        left_s = self.left_s(phase)
        if left_s <= 0:
            raise self.error()
        return left_s

    def error(self) -> httpx.TimeoutException:
        """The error for an attempt that spent its time in the current phase."""
        limit_s = self._total_s if self._end_s <= self._phase_end_s else self._limits_s[self.phase]
        return _ERRORS[self.phase](f"{_UNFINISHED[self.phase]} after {limit_s:.3g} s")


Trace = Callable[[str, dict[str, Any]], Awaitable[None]]


@asynccontextmanager
async def async_deadline(step: SendRequest) -> AsyncIterator[Trace]:
    """Bound an asynchronous attempt; yields a hook for httpx's `trace` extension.

    Raises httpx.TimeoutException when a phase takes too long.
    """
    budget = TimeBudget(step)
    try:
        async with asyncio.timeout(step.left_s) as limit:

            async def trace(event: str, _: dict[str, Any]) -> None:
                phase = _FIRST_EVENTS.get(event.partition(".")[2])
                if phase is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + budget.left_s(phase))

            yield trace
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise budget.error() from exc


current_budget: ContextVar[TimeBudget | None] = ContextVar("current_budget", default=None)
"""The budget of the synchronous attempt that this thread makes."""


@contextmanager
def sync_deadline(step: SendRequest) -> Iterator[TimeBudget]:
    """Bound a synchronous attempt, as far as the transport checks `current_budget`."""
    budget = TimeBudget(step)
    token = current_budget.set(budget)
    try:
        yield budget
    finally:
        current_budget.reset(token)
