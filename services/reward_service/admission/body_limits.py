"""Limits on request bodies: bytes of one body, bytes of all bodies in memory, and the time that one may take.

Content-Length ─▶ Reservation.reserve ─▶ read ─▶ … ─▶ released when the request has been answered
                  └─ 413, 422, or 503 with Retry-After: before any byte is read
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from mmap import mmap

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from reward_service.errors import InvalidRequestError, NoRoomError, SlowBodyError, TooLargeError
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics

__all__ = ["BodyBudget", "Reservation"]

_MAPPED_BYTES = 1024 * 1024
_RATE_WINDOW_S = 64
"""Seconds, among those in which bodies were released, over which the release rate is measured."""


class BodyBudget:
    """The memory for bodies: at most `max_waiting_bytes` together."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._bytes = 0
        metrics.watch_bodies(lambda: self._bytes)
        self._rate = _ReleaseRate(clock)

    @contextmanager
    def reservation(self, headers: Mapping[bytes, bytes], receive: Receive) -> Iterator[Reservation]:
        """Room for the body of one request, released when the block ends."""
        reservation = Reservation(self, headers, receive)
        try:
            yield reservation
        finally:
            self.add(-reservation.bytes)

    def check(self, reserved: int, size: int) -> None:
        """Raise if a body of `size` bytes, of which `reserved` are counted already, has no room.

        A body that is alone always has room.
        """
        settings = self.settings
        if size > settings.max_body_bytes:
            raise TooLargeError(
                f"the body has more than {settings.max_body_bytes} bytes; send the items in several requests"
            )
        others = self._bytes - reserved
        excess = others + size - settings.max_waiting_bytes
        if others and excess > 0:
            raise NoRoomError(
                f"{others} bytes of bodies are in memory, at most {settings.max_waiting_bytes} are allowed",
                retry_after_s=self._rate.seconds_for(min(excess, others)),
            )

    def add(self, n_bytes: int) -> None:
        """Count `n_bytes` more; a negative number releases them."""
        if not self._bytes:
            self._rate.restart()
        self._bytes += n_bytes
        self._rate.released(-n_bytes)


class Reservation:
    """Room for one body: reserved before any of it is read, then filled."""

    def __init__(self, budget: BodyBudget, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        self.bytes = 0
        """What is counted for it."""
        self._budget = budget
        self._headers = headers
        self._receive = receive

    def reserve(self) -> None:
        """Reserve the declared length of the body.

        Raises:
            InvalidRequestError: the body is compressed.
            TooLargeError: it is over `max_body_bytes`.
            NoRoomError: it does not fit beside the bodies in memory.
        """
        if self._headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            raise InvalidRequestError("compressed bodies are not supported; send it without content-encoding")
        self._grow(_declared_bytes(self._headers.get(b"content-length", b"")))

    async def read(self) -> bytearray | mmap:
        """The whole body. Raises as `reserve` does, SlowBodyError, or starlette's ClientDisconnect."""
        limit_s = self._budget.settings.body_timeout_s
        size = 0
        body: bytearray | mmap = _buffer(self.bytes)
        try:
            async with asyncio.timeout(limit_s):
                more = True
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk = message.get("body", b"")
                    self._grow(size + len(chunk))
                    if isinstance(body, mmap) and size + len(chunk) > len(body):
                        body = bytearray(body[:size])  # a longer body than declared; a mapping cannot grow safely
                    body[size : size + len(chunk)] = chunk
                    size += len(chunk)
                    more = message.get("more_body", False)
        except TimeoutError as exc:
            raise SlowBodyError(f"the body did not arrive within {limit_s:g} s") from exc
        return body if len(body) == size else bytearray(body[:size])

    def _grow(self, size: int) -> None:
        if size > self.bytes or not self.bytes:
            self._budget.check(self.bytes, size)
        if size > self.bytes:
            self._budget.add(size - self.bytes)
            self.bytes = size


def _buffer(size: int) -> bytearray | mmap:
    """`size` bytes. The kernel clears the pages of a mapping one by one; a large bytearray is cleared at once."""
    return mmap(-1, size) if size > _MAPPED_BYTES else bytearray(size)


def _declared_bytes(content_length: bytes) -> int:
    """The declared length of a body; 0 without a valid declaration."""
    return int(content_length) if content_length.isdigit() and len(content_length) < 20 else 0


class _ReleaseRate:
    """Bytes per second that bodies release, since memory was last empty, in at most `_RATE_WINDOW_S` samples."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW_S)
        """Start of a second and the bytes released in it; the first sample only marks the start."""

    def restart(self) -> None:
        """Restart the measurement: no body is in memory."""
        self._samples.clear()
        self._samples.append((self._clock(), 0))

    def released(self, n_bytes: int) -> None:
        """Count `n_bytes`, unless they are not above 0."""
        if n_bytes <= 0:
            return
        start, so_far = self._samples[-1]
        if self._clock() - start < 1:
            self._samples[-1] = start, so_far + n_bytes
        else:
            self._samples.append((self._clock(), n_bytes))

    def seconds_for(self, n_bytes: int) -> float:
        """Estimated seconds until `n_bytes` more are released; 0 without a measurement."""
        (start, _), *later = self._samples
        return n_bytes * (self._clock() - start) / sum(n for _, n in later) if later else 0.0
