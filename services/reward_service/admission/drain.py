"""Graceful shutdown: no longer ready, no new requests, requests in flight finish, then the process ends.

SIGTERM ──▶ Drain.begin ─┬─▶ /readyz 503; new and held requests 503 with Retry-After
                         └─▶ uvicorn closes its listener, waits for requests in flight (`stop_timeout_s`), ends
"""

from __future__ import annotations

import asyncio
import logging

from reward_service.errors import DrainingError
from reward_service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_RESTART_S = 5.0
"""Typical seconds of a restart, with models on the local disk."""


class Drain:
    """Whether the service is shutting down. To be created in its event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self.is_draining = False
        self._loop = asyncio.get_running_loop()
        self._begun = asyncio.Event()
        self._metrics = metrics

    def begin(self) -> None:
        """Admit no new requests from now on. Safe in any thread and in a signal handler."""
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if not self.is_draining:
            logger.info("shutting down: no new requests are admitted, requests in flight finish")
            self._metrics.draining()
            self.is_draining = True
            self._begun.set()

    async def begun(self) -> None:
        """Return when the service begins to shut down."""
        await self._begun.wait()

    def check(self) -> None:
        """Raise DrainingError if the service is shutting down."""
        if self.is_draining:
            raise DrainingError(
                "the service is about to stop; retry after its restart, or at another replica", _RESTART_S
            )
