"""Idempotency: requests with the same Idempotency-Key and content get one reply, computed once.

    unknown key ───────────────▶ compute and keep the reply; failures are not kept, so that a retry computes again
    known key, same request ───▶ the kept reply, or the one being computed
    known key, other request ──▶ 422, naming the header

A computation that several requests share continues as long as one of them waits for it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from hashlib import sha256
from mmap import mmap
from typing import Any

from cachetools import TTLCache

from reward_client.wire import FieldError
from reward_service.batching import Steps
from reward_service.errors import InvalidRequestError
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics

__all__ = ["IDEMPOTENCY_HEADER", "IdempotencyCache", "fingerprint", "idempotency_key"]

IDEMPOTENCY_HEADER = "Idempotency-Key"
_KEY = re.compile(rb"[!-~]{1,255}")

_STEP_BYTES = 1024 * 1024
"""Bytes that are hashed in one step, about a millisecond."""

Compute = Callable[[], Coroutine[Any, Any, bytes]]


def idempotency_key(headers: Mapping[bytes, bytes]) -> str | None:
    """The key in `headers`. Raises InvalidRequestError if it is empty, too long or not printable ASCII."""
    key = headers.get(IDEMPOTENCY_HEADER.lower().encode())
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise _invalid_key("1 to 255 printable ASCII characters without spaces are needed")
    return key.decode()


def fingerprint(path: str, query_string: bytes, body: bytes | bytearray | mmap) -> Steps[bytes]:
    """Digest of what makes two requests the same."""
    digest = sha256(path.encode(errors="replace") + b"\0" + query_string + b"\0")
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
    callers: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    request: bytes
    reply: bytes


class IdempotencyCache:
    """Replies by key, bounded in number, bytes and age; the least recently used are dropped first."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._in_flight: dict[str, _InFlight] = {}
        least = settings.idempotency_bytes / settings.idempotency_entries  # so that both limits hold
        self._kept: TTLCache[str, _Kept] = TTLCache(
            settings.idempotency_bytes,
            settings.idempotency_ttl_s,
            timer=time.monotonic,
            getsizeof=lambda kept: max(len(kept.reply), least),
        )

    def contains(self, key: str) -> bool:
        """Whether the reply for `key` is kept or being computed."""
        return key in self._kept or key in self._in_flight

    async def get_or_compute(self, key: str, request: bytes, compute: Compute) -> bytes:
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

    def _start(self, key: str, request: bytes, compute: Compute) -> _InFlight:
        flight = _InFlight(request, asyncio.create_task(compute(), name="idempotent"))
        self._in_flight[key] = flight
        return flight

    async def _share(self, key: str, flight: _InFlight) -> bytes:
        """Wait for `flight`; the last caller that leaves cancels it."""
        flight.callers += 1
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.callers -= 1
            if (flight.task.done() or not flight.callers) and self._in_flight.get(key) is flight:
                del self._in_flight[key]
                flight.task.cancel()
        if key not in self._kept and len(reply) <= self._kept.maxsize:
            self._kept[key] = _Kept(flight.request, reply)
        return reply
