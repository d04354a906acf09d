"""Hold: requests of clients that do not retry wait for admission instead of being refused.

    request ─▶ does a queue wait? ─no─▶ attempt ─▶ admitted, or refused ─▶ at the end of the queue, up to hold_s
                              └─yes─▶ at the end of the queue, or refused like the head of the queue
    SIGTERM ─▶ Drain.begin ─▶ /readyz, new and held requests 503 with Retry-After; requests in flight finish

Each caller has a queue for each resource (memory, each set of models), so that a request waits only for what it
needs, and for no other caller's requests. The head of a queue retries until it is admitted: first come, first
served. Nothing is computed for a request that waits. A protocol's `hold_s` is the time that its clients can wait;
0 refuses at once, with Retry-After.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from reward_service.errors import (
    DrainingError,
    NoRoomError,
    NotLoadedError,
    NotReadyError,
    OverloadedError,
    UnavailableError,
)
from reward_service.protocols.base import EndpointSpec
from reward_service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

RETRYABLE = (NotReadyError, OverloadedError, NoRoomError)
"""Refusals that waiting can resolve, except NotLoadedError."""
_RETRY_S = 0.05
"""Seconds between two attempts of the head of a queue; an attempt costs microseconds."""
_RESTART_S = 5.0
"""Typical seconds of a restart, with models on the local disk."""

Attempt = Callable[[], None]


class Drain:
    """Whether the service is shutting down. To be created in its event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._begun = False
        self._loop = asyncio.get_running_loop()
        self._metrics = metrics

    def begin(self) -> None:
        """Admit no new requests from now on. Safe in any thread and in a signal handler."""
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if not self._begun:
            logger.info("shutting down: no new requests are admitted, requests in flight finish")
            self._metrics.draining()
            self._begun = True

    def check(self) -> None:
        """Raise DrainingError if the service is shutting down."""
        if self._begun:
            raise DrainingError(
                "the service is about to stop; retry after its restart, or at another replica", _RESTART_S
            )


class AdmissionQueue:
    """Requests of one caller for one resource. The lock's holder is the head; its waiters are served in order."""

    def __init__(self) -> None:
        self.head = asyncio.Lock()
        self.length = 0
        self.refusal: UnavailableError = NotReadyError("no attempt was made yet", 1.0)
        """Of the last attempt."""

    def attempt(self, attempt: Attempt) -> bool:
        """Whether `attempt` was not refused. Raises NotLoadedError."""
        try:
            attempt()
        except NotLoadedError:
            raise
        except RETRYABLE as refusal:
            self.refusal = refusal
            return False
        return True

    def refusal_copy(self) -> UnavailableError:
        """The last refusal, for another request."""
        return type(self.refusal)(str(self.refusal), self.refusal.retry_after_s, self.refusal.caller_class)


class AdmissionHold:
    """Admits requests, or holds them until they are admitted, time out, or the service shuts down."""

    def __init__(self, max_hold_s: float, drain: Drain, metrics: Metrics) -> None:
        self._max_hold_s = max_hold_s
        self._drain = drain
        self._metrics = metrics
        self._queues: dict[tuple[str, str], AdmissionQueue] = {}
        """By resource and caller; only those in which requests wait."""

    def hold_s(self, spec: EndpointSpec[Any]) -> float:
        """Seconds that a request of `spec` may be held."""
        return min(spec.hold_s, self._max_hold_s)

    def admit_now(self, spec: EndpointSpec[Any], caller: str, resource: str, attempt: Attempt) -> bool:
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

    async def wait(self, spec: EndpointSpec[Any], caller: str, resource: str, attempt: Attempt) -> None:
        """Return when `attempt` was not refused.

        Args:
            spec: whose `hold_s` applies.
            caller: whose queue it waits in.
            resource: what it needs.
            attempt: takes what the request needs, or raises one of `RETRYABLE`. When this method raises, the last
                attempt may have succeeded: the caller must release what it took.

        Raises:
            DrainingError: the service began to shut down.
            NotLoadedError: waiting does not help.
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
            async with asyncio.timeout(self.hold_s(spec)), queue.head:
                self._drain.check()
                while not queue.attempt(attempt):
                    await asyncio.sleep(_RETRY_S)
                    self._drain.check()
            outcome = "admitted"
        except TimeoutError:
            outcome = "refused"
            raise queue.refusal_copy() from None
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[resource, caller]
            self._metrics.holding(spec.name, -1)
            self._metrics.held(spec.name, outcome, time.monotonic() - began)
