"""The open connections of a server: bounds on their number and the memory of incomplete heads, fair by address.

    open ─┬─ the address has its share ─▶ counted until it is closed
          └─ none left, or the address is over its share ─▶ refused, counted and logged

Each connection needs a file descriptor. Without a bound the process runs out of them, and then it can neither
accept a connection nor open a file; the kernel resets new connections, and no log line reports it.
"""

import contextlib
import logging
import time

from reward_service.fair_share import FairShare
from reward_service.telemetry.metrics import Metrics

MAX_LARGE_HEADS_BYTES = 16 * 1024 * 1024
"""Bytes of all incomplete heads above 8 KiB: clients send less than 2 KiB, and these need no API key."""
DEFAULT_CONNECTIONS = 16_384
"""Default of `max_connections` where descriptors allow it: an idle connection occupies about 6 KiB."""
RESERVED_DESCRIPTORS = 256
"""File descriptors for everything else: libraries, models, key files, and `_MAX_ANSWERED`."""
_MAX_ANSWERED = 64
"""Refused connections that are open at the same time to read their 503; further ones are reset."""
_LOG_INTERVAL_S = 10.0

logger = logging.getLogger(__name__)


class Connections:
    """Counts connections by address.

    Args:
        wanted: the setting `max_connections`.
        descriptors: the process's limit of open files; None if the system has none.
        metrics: shows the number of open and of refused connections.
    """

    def __init__(self, wanted: int | None, descriptors: int | None, metrics: Metrics) -> None:
        available = max(1, descriptors - RESERVED_DESCRIPTORS) if descriptors else DEFAULT_CONNECTIONS
        self.limit = min(wanted or DEFAULT_CONNECTIONS, available)
        if wanted and wanted > self.limit:
            logger.warning(
                "max_connections is %d, because the limit of open files is %d; `ulimit -n` raises it",
                self.limit,
                descriptors,
            )
        self.head_bytes = FairShare(MAX_LARGE_HEADS_BYTES)
        """Bytes of incomplete heads, by address."""
        self._share = FairShare(self.limit)
        self._counted: set[object] = set()
        self._refused: set[object] = set()
        self._unlogged = 0
        self._logged = -_LOG_INTERVAL_S
        self._metrics = metrics
        metrics.watch_connections(lambda: len(self._counted))

    def open(self, connection: object, caller: str) -> str | None:
        """Count `connection` until `close`; the reason if it is refused."""
        if self._share.allows(caller, 1):
            self._share.add(caller, 1)
            self._counted.add(connection)
            return None
        self.refuse(connection)
        used, total = int(self._share.used(caller)), int(self._share.total)
        return f"{total} of at most {self.limit} connections are open, {used} of them from your address"

    def refuse(self, connection: object) -> None:
        """`connection` is refused, and may be answered if `may_answer_refused`."""
        self._refused.add(connection)

    def close(self, connection: object, caller: str) -> None:
        """`connection` has ended, whether it was refused or not."""
        self._refused.discard(connection)
        if connection in self._counted:
            self._counted.remove(connection)
            self._share.add(caller, -1)

    @property
    def may_answer_refused(self) -> bool:
        """Whether a refused connection may stay open to read its response."""
        return len(self._refused) <= _MAX_ANSWERED

    def log_refusal(self, caller: str, reason: str) -> None:
        """Count a connection that is refused without a request, and log it, with others of the same time."""
        self._metrics.connection_refused()
        self._unlogged += 1
        now = time.monotonic()
        if now - self._logged >= _LOG_INTERVAL_S:
            logger.warning("refused %d connections, the last of %s: %s", self._unlogged, caller, reason)
            self._unlogged, self._logged = 0, now


def raise_descriptor_limit() -> int | None:
    """Raise the limit of open files to its maximum and return it; None if there is none.

    The usual 1,024 are fewer than the samples of a rollout.
    """
    with contextlib.suppress(ImportError):
        import resource  # not on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        return None if soft == resource.RLIM_INFINITY else soft
    return None
