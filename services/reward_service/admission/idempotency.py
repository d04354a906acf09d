"""Idempotency: requests of a caller with the same Idempotency-Key and content get one reply, computed once.

    unknown key ───────────────▶ compute and keep the reply; failures are not kept, so that a retry computes again
    known key, same request ───▶ the kept reply, or the one being computed
    known key, other request ──▶ 422, naming the header

Keys of different callers are different keys. A computation that several requests share continues as long as one of
them waits for it.
"""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from hashlib import sha256
from mmap import mmap
from typing import Any

from cachetools import TTLCache

from reward_client.wire import WIRE_VERSION_HEADER, FieldError
from reward_service.batching import Steps
from reward_service.errors import InvalidRequestError
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics

IDEMPOTENCY_HEADER = "Idempotency-Key"
_KEY = re.compile(rb"[!-~]{1,255}")

_STEP_BYTES = 1024 * 1024
"""Bytes that are hashed in one step, about a millisecond."""

CallerKey = tuple[str, str]
"""Caller, and the Idempotency-Key."""
Compute = Callable[[], Coroutine[Any, Any, bytes]]


def idempotency_key(headers: Mapping[bytes, bytes], caller: str) -> CallerKey | None:
    """The key in `headers`. Raises InvalidRequestError if it is empty, too long or not printable ASCII."""
    key = headers.get(IDEMPOTENCY_HEADER.lower().encode())
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise _invalid_key("1 to 255 printable ASCII characters without spaces are needed")
    return caller, key.decode()


def fingerprint(
    path: str, query_string: bytes, headers: Mapping[bytes, bytes], body: bytes | bytearray | mmap
) -> Steps[bytes]:
    """Digest of what makes two requests the same."""
    version = headers.get(WIRE_VERSION_HEADER.lower().encode(), b"")
    digest = sha256(b"%s\0%s\0%s\0" % (path.encode(errors="replace"), query_string, version))
    with memoryview(body) as view:
        for start in range(0, len(view), _STEP_BYTES):
            digest.update(view[start : start + _STEP_BYTES])
            yield
    return digest.digest()


def _invalid_key(message: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{IDEMPOTENCY_HEADER}: {message}", [FieldError(field=IDEMPOTENCY_HEADER, message=message)]
    )


@dataclass(slots=True, eq=False)
class _InFlight:
    request: bytes
    task: asyncio.Task[bytes]
    requests: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    request: bytes
    reply: bytes


class IdempotencyCache:
    """Replies by caller and key, bounded in number, bytes and age."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._in_flight: dict[CallerKey, _InFlight] = {}
        self._kept = _KeptReplies(settings)

    def contains(self, key: CallerKey) -> bool:
        """Whether the reply for `key` is kept or being computed."""
        return self._kept.get(key) is not None or key in self._in_flight

    async def get_or_compute(self, key: CallerKey, request: bytes, compute: Compute) -> bytes:
        """The reply for `key`; `compute` is called if it is neither kept nor being computed.

        Raises:
            InvalidRequestError: `key` belongs to a request other than `request`.
        """
        known = self._kept.get(key) or self._in_flight.get(key)
        if known is not None and known.request != request:
            self._metrics.idempotent("conflict")
            raise _invalid_key("this key was used for another request; a new request needs a new key")
        if isinstance(known, _Kept):
            self._metrics.idempotent("replayed")
            return known.reply
        self._metrics.idempotent("shared" if known else "computed")
        return await self._share(key, known or self._start(key, request, compute))

    def _start(self, key: CallerKey, request: bytes, compute: Compute) -> _InFlight:
        flight = _InFlight(request, asyncio.create_task(compute(), name="idempotent"))
        self._in_flight[key] = flight
        return flight

    async def _share(self, key: CallerKey, flight: _InFlight) -> bytes:
        """Wait for `flight`; the last request that leaves cancels it."""
        flight.requests += 1
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.requests -= 1
            if (flight.task.done() or not flight.requests) and self._in_flight.get(key) is flight:
                del self._in_flight[key]
                flight.task.cancel()
        if self._kept.get(key) is None:
            self._kept.put(key, _Kept(flight.request, reply))
        return reply


class _KeptReplies:
    """Finished replies. When all is used, the caller that uses most loses its least recently used reply."""

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.idempotency_bytes
        self._ttl_s = settings.idempotency_ttl_s
        self._least = settings.idempotency_bytes / settings.idempotency_entries  # so that both limits hold
        self._by_caller: dict[str, TTLCache[str, _Kept]] = {}

    def get(self, key: CallerKey) -> _Kept | None:
        caller, name = key
        kept = self._by_caller.get(caller)
        return kept.get(name) if kept else None

    def put(self, key: CallerKey, reply: _Kept) -> None:
        """Keep `reply`, unless it alone is over the limit, or over what others leave to the caller."""
        (caller, name), size = key, self._size(reply)
        self._by_caller = {other: kept for other, kept in self._by_caller.items() if kept.currsize}
        used = {other: kept.currsize for other, kept in self._by_caller.items()}
        used[caller] = used.get(caller, 0) + size
        while sum(used.values()) > self._max_bytes:
            victim = max(used, key=lambda other: (used[other], other == caller))
            if victim not in self._by_caller:
                return  # more than the caller's share
            used[victim] -= self._evict(victim)
        if caller not in self._by_caller:
            self._by_caller[caller] = TTLCache(self._max_bytes, self._ttl_s, time.monotonic, self._size)
        self._by_caller[caller][name] = reply

    def _evict(self, caller: str) -> float:
        """Drop the expired replies of `caller` and one more; the bytes that they had."""
        kept = self._by_caller[caller]
        before = kept.currsize
        kept.expire()
        if kept:
            kept.popitem()
        if not kept:
            del self._by_caller[caller]
        return before - kept.currsize

    def _size(self, kept: _Kept) -> float:
        return max(len(kept.reply), self._least)
