"""The same question twice, one answer: replies under an Idempotency-Key, computed once.

    key unknown ─────────────▶ compute, keep the reply; a failure is not kept, the next try computes
    key known, same request ─▶ the same bytes, or a share of the wait for them
    key known, other request ▶ 422, naming the header

The computation belongs to nobody in particular: it goes on as long as one caller waits for it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from fastapi import Request

from reward_client.wire import FieldError
from reward_service.errors import InvalidRequestError
from reward_service.settings import Settings
from reward_service.telemetry.admission_metrics import AdmissionMetrics

__all__ = ["HEADER", "IdempotencyCache", "fingerprint", "idempotency_key"]

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[!-~]{1,255}")

Compute = Callable[[], Coroutine[Any, Any, bytes]]


def idempotency_key(request: Request) -> str | None:
    """The request's key. Raises InvalidRequestError for one that is empty, long, or no printable ASCII."""
    key = request.headers.get(HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise _wrong("1 to 255 printable ASCII characters without spaces are needed")
    return key


def fingerprint(request: Request, body: bytes) -> bytes:
    """What makes a request the same: its path, what the URL asks for, and its body."""
    scope = request.scope
    return sha256(b"\0".join([scope["path"].encode(errors="replace"), scope["query_string"], body])).digest()


def _wrong(message: str) -> InvalidRequestError:
    return InvalidRequestError(f"{HEADER}: {message}", [FieldError(field=HEADER, message=message)])


@dataclass(slots=True, eq=False)
class _InFlight:
    request: bytes
    task: asyncio.Task[bytes]
    callers: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    request: bytes
    reply: bytes
    until: float


class IdempotencyCache:
    """IdempotencyCache by key, bounded in number, bytes and age; the oldest go first."""

    def __init__(self, settings: Settings, metrics: AdmissionMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._in_flight: dict[str, _InFlight] = {}
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def contains(self, key: str) -> bool:
        """Whether there is a reply under `key`, or somebody computes one."""
        return key in self._kept or key in self._in_flight

    async def get_or_compute(self, key: str, request: bytes, compute: Compute) -> bytes:
        """The reply under `key`; `compute` runs when there is none and nobody computes it.

        Raises:
            InvalidRequestError: `key` stands for another request.
        """
        self._forget_old()
        known = self._kept.get(key) or self._in_flight.get(key)
        if known is not None and known.request != request:
            self._metrics.idempotent("conflict")
            raise _wrong("this key was used for another request; a new request needs a new key")
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
        """Wait for `flight` with whoever else does; the last to leave ends it."""
        flight.callers += 1
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.callers -= 1
            if (flight.task.done() or not flight.callers) and self._in_flight.get(key) is flight:
                del self._in_flight[key]
                flight.task.cancel()
        if key not in self._kept:
            self._keep(key, _Kept(flight.request, reply, time.monotonic() + self._settings.idempotency_ttl_s))
        return reply

    def _keep(self, key: str, kept: _Kept) -> None:
        if len(kept.reply) > self._settings.idempotency_bytes:
            return
        self._kept[key] = kept
        self._bytes += len(kept.reply)
        while (
            len(self._kept) > self._settings.idempotency_entries or self._bytes > self._settings.idempotency_bytes
        ):
            self._drop_oldest()

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, kept = self._kept.popitem(last=False)
        self._bytes -= len(kept.reply)
