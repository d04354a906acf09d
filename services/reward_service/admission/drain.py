"""The end of the service, in order: not ready, nothing new, what is in flight finishes, then the process ends.

SIGTERM ──▶ Drain.begin ─┬─▶ /readyz 503, new work 503 with Retry-After, held requests 503
                         └─▶ uvicorn closes its listener, waits for answers in flight (`stop_timeout_s`), ends
"""

from __future__ import annotations

import asyncio
import logging

from reward_service.errors import DrainingError
from reward_service.telemetry.admission_metrics import AdmissionMetrics

__all__ = ["Drain"]

logger = logging.getLogger(__name__)

_RESTART_S = 5.0
"""About what a restart takes, with models that are on the disk."""


class Drain:
    """Whether the service was told to stop. Made inside the event loop that it belongs to."""

    def __init__(self, metrics: AdmissionMetrics) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = asyncio.Event()
        self._metrics = metrics

    def begin(self) -> None:
        """Take nothing new from now on. From any thread, and from a signal handler."""
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if not self._begun.is_set():
            logger.info("told to stop: nothing new is taken, what is in flight finishes")
            self._metrics.draining()
            self._begun.set()

    async def begun(self) -> None:
        """Return once the service was told to stop."""
        await self._begun.wait()

    def check(self) -> None:
        """Raise DrainingError when the service was told to stop."""
        if self._begun.is_set():
            raise DrainingError(
                "the service is about to stop; ask it again when it is back, or ask another", _RESTART_S
            )
