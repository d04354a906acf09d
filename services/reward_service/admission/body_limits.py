"""Request bodies: bounded before they are read, and bounded together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import Request

from reward_service.errors import InvalidRequestError, NoRoomError, SlowBodyError, TooLargeError
from reward_service.settings import Settings
from reward_service.telemetry.admission_metrics import AdmissionMetrics

__all__ = ["BodyBudget", "Reservation", "declared_bytes"]

_SECONDS = 64
"""In which bodies left, whose bytes say how fast they leave."""


def declared_bytes(content_length: bytes) -> int | None:
    """Bytes that the body is said to have; None when nothing is said, or no number."""
    return int(content_length) if content_length.isdigit() and len(content_length) < 20 else None


class BodyBudget:
    """Reads bodies, and knows how many bytes of them are in memory."""

    def __init__(
        self, settings: Settings, metrics: AdmissionMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._metrics = metrics
        self._bytes = 0
        self._outflow = _Outflow(clock)

    @contextmanager
    def place(self, request: Request) -> Iterator[Reservation]:
        """A place for the body of `request`, given back when the block ends."""
        place = Reservation(self, request)
        try:
            yield place
        finally:
            self.count(-place.bytes)

    def check(self, own: int, size: int) -> None:
        """Raise when a body of `size` has no room; `own` bytes of it are counted already. A lone one fits."""
        settings = self.settings
        if size > settings.max_body_bytes:
            raise TooLargeError(
                f"the body has more than {settings.max_body_bytes} bytes; send the items in several requests"
            )
        others = self._bytes - own
        excess = others + size - settings.max_waiting_bytes
        if others and excess > 0:
            raise NoRoomError(
                f"{others} bytes of bodies wait, at most {settings.max_waiting_bytes} are held",
                retry_after_s=self._outflow.seconds_for(min(excess, others)),
            )

    def count(self, change: int) -> None:
        """So many bytes more are in memory."""
        if not self._bytes:
            self._outflow.begins()
        self._bytes += change
        self._outflow.left(-change)
        self._metrics.body_bytes(self._bytes)


class Reservation:
    """Room for one body: reserved before any of it is read, then filled."""

    def __init__(self, bodies: BodyBudget, request: Request) -> None:
        self.bytes = 0
        """What is counted for it."""
        self._bodies = bodies
        self._request = request

    async def reserve(self) -> None:
        """Reserve what the request says of its body.

        Raises:
            InvalidRequestError: it is compressed.
            TooLargeError: it is over `max_body_bytes`.
            NoRoomError: it does not fit beside the bodies that are there.
        """
        headers = self._request.headers
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise InvalidRequestError("compressed bodies are not read; send it without content-encoding")
        self._grow(declared_bytes(headers.get("content-length", "").encode()) or 0)

    async def read(self) -> bytes:
        """The whole body. Raises as `reserve`, or SlowBodyError."""
        limit_s = self._bodies.settings.body_timeout_s
        body = bytearray()
        try:
            async with asyncio.timeout(limit_s):
                async for chunk in self._request.stream():
                    self._grow(len(body) + len(chunk))
                    body += chunk
        except TimeoutError as exc:
            raise SlowBodyError(f"the body did not arrive within {limit_s:g} s") from exc
        return bytes(body)

    def _grow(self, size: int) -> None:
        """Count `size` bytes for it, if that is more than before."""
        size = max(size, self.bytes)
        self._bodies.check(self.bytes, size)
        self._bodies.count(size - self.bytes)
        self.bytes = size


class _Outflow:
    """How fast bodies leave memory, since it was last empty or for a minute; those of a second count as one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: deque[tuple[float, int]] = deque(maxlen=_SECONDS)
        """When the first of a second left, and how many bytes did."""

    def begins(self) -> None:
        """Memory was empty until now."""
        self._left.clear()
        self._left.append((self._clock(), 0))

    def left(self, n_bytes: int) -> None:
        """So many bytes were given back; none, when it is not above 0."""
        if n_bytes <= 0:
            return
        at_s, so_far = self._left[-1]
        if self._clock() - at_s < 1:
            self._left[-1] = at_s, so_far + n_bytes
        else:
            self._left.append((self._clock(), n_bytes))

    def seconds_for(self, n_bytes: int) -> float:
        """Until about so many more will have left; 0 while it is not known. It grows when none leave."""
        (began, _), *later = self._left
        return n_bytes * (self._clock() - began) / sum(n for _, n in later) if later else 0.0
