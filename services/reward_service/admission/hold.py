"""Hold: requests of clients that do not retry wait for admission instead of being refused.

    request ─▶ does a queue wait? ─no─▶ attempt ─▶ admitted, or refused ─▶ at the end of the queue, up to hold_s
                              └─yes─▶ at the end of the queue, or refused like the head of the queue

Each caller has a queue for each resource (memory, each set of models), so that a request waits only for what it
needs, and for no other caller's requests. The head of a queue retries until it is admitted: first come, first
served. Nothing is computed for a request that waits. A protocol's `hold_s` is the time that its clients can wait;
0 refuses at once, with Retry-After.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from reward_service.admission.drain import Drain
from reward_service.errors import NoRoomError, NotReadyError, OverloadedError, UnavailableError
from reward_service.protocols.base import ProtocolSpec
from reward_service.telemetry.metrics import Metrics

RETRYABLE = (NotReadyError, OverloadedError, NoRoomError)
"""Refusals that waiting can resolve."""
_RETRY_S = 0.05
"""Seconds between two attempts of the head of a queue; an attempt costs microseconds."""

Attempt = Callable[[], None]


class AdmissionQueue:
    """Requests of one caller for one resource. The lock's holder is the head; its waiters are served in order."""

    def __init__(self) -> None:
        self.head = asyncio.Lock()
        self.length = 0
        self.refusal: UnavailableError = NotReadyError("no attempt was made yet", 1.0)
        """Of the last attempt."""

    def attempt(self, attempt: Attempt) -> bool:
        """Whether `attempt` was not refused."""
        try:
            attempt()
        except RETRYABLE as refusal:
            self.refusal = refusal
            return False
        return True

    def refusal_copy(self) -> UnavailableError:
        """The last refusal, for another request."""
        return type(self.refusal)(str(self.refusal), self.refusal.retry_after_s)


class AdmissionHold:
    """Admits requests, or holds them until they are admitted, time out, or the service shuts down."""

    def __init__(self, max_hold_s: float, drain: Drain, metrics: Metrics) -> None:
        self._max_hold_s = max_hold_s
        self._drain = drain
        self._metrics = metrics
        self._queues: dict[tuple[str, str], AdmissionQueue] = {}
        """By resource and caller; only those in which requests wait."""

    def hold_s(self, spec: ProtocolSpec[Any]) -> float:
        """Seconds that a request of `spec` may be held."""
        return min(spec.hold_s, self._max_hold_s)

    def admit_now(self, spec: ProtocolSpec[Any], caller: str, resource: str, attempt: Attempt) -> bool:
        """Attempt once. False means that the request has to `wait`.

        Raises:
            NotReadyError, OverloadedError, NoRoomError: refused, and the protocol's clients are not held.
        """
        queue = self._queues.get((resource, caller))
        try:
            if queue is not None:
                raise queue.refusal_copy()
            attempt()
        except RETRYABLE:
            if self.hold_s(spec) > 0:
                return False
            raise
        return True

    async def wait(
        self,
        spec: ProtocolSpec[Any],
        caller: str,
        resource: str,
        attempt: Attempt,
        ready: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Return when `attempt` was not refused.

        Args:
            spec: whose `hold_s` applies.
            caller: whose queue it waits in.
            resource: what it needs.
            attempt: takes what the request needs, or raises one of `RETRYABLE`. When this method raises, the last
                attempt may have succeeded: the caller must release what it took.
            ready: returns when the models that `attempt` needs are loaded; raises NotReadyError if one cannot be.

        Raises:
            DrainingError: the service began to shut down.
            NotReadyError, OverloadedError, NoRoomError: the last refusal, after `hold_s`.
        """
        queue = self._queues.get((resource, caller), AdmissionQueue())
        if not queue.length and queue.attempt(attempt):
            return
        self._queues[resource, caller] = queue
        outcome, began = "ended", time.monotonic()
        queue.length += 1
        self._metrics.holding(spec.name, 1)
        try:
            async with asyncio.timeout(self.hold_s(spec)):
                await _cancel_on(self._drain.begun(), _retry_at_head(queue, attempt, ready))
            outcome = "admitted"
        except _CancelledByEventError:
            self._drain.check()
        except TimeoutError:
            outcome = "refused"
            raise queue.refusal_copy() from None
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[resource, caller]
            self._metrics.holding(spec.name, -1)
            self._metrics.held(spec.name, outcome, time.monotonic() - began)


async def _retry_at_head(
    queue: AdmissionQueue, attempt: Attempt, ready: Callable[[], Awaitable[object]] | None
) -> None:
    async with queue.head:
        while not queue.attempt(attempt):
            if isinstance(queue.refusal, NotReadyError) and ready is not None:
                await ready()
            await asyncio.sleep(_RETRY_S)


class _CancelledByEventError(Exception):
    """The event occurred before the work was done."""


async def _cancel_on(event: Coroutine[Any, Any, object], work: Coroutine[Any, Any, None]) -> None:
    """Return or raise what `work` does; both coroutines have ended then.

    Raises:
        _CancelledByEventError: `event` returned first. If it raises, `work` continues.
    """
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(event)
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and not watching.cancelled() and watching.exception() is None:
            raise _CancelledByEventError
        await working
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
