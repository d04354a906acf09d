"""How long one attempt may take, phase by phase: httpx bounds the pauses in a phase, this bounds the phase.

    pool ── connect ── write ── read (the answer's head and body)     each at most what `SendRequest` allows
    └───────── together: what is left of the deadline ──────────┘     however often a byte comes or goes

Synchronous calls are bounded at their sockets (`hold`, `sync_deadline`), asynchronous ones by `async_deadline`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import httpcore
import httpx

from reward_client.flow import SendRequest

__all__ = ["TimeBudget", "async_deadline", "hold", "sync_deadline"]

Phase = Literal["pool", "connect", "write", "read"]
"""`pool`: waiting for a free connection, which says nothing of the service."""

_logger = logging.getLogger("reward_client")

_PIECE_BYTES = 16 * 1024
"""Bytes written before the clock is looked at again: socket buffers take so few at once."""

_ERRORS: dict[Phase, tuple[type[httpcore.TimeoutException], type[httpx.TimeoutException]]] = {
    "pool": (httpcore.PoolTimeout, httpx.PoolTimeout),
    "connect": (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    "write": (httpcore.WriteTimeout, httpx.WriteTimeout),
    "read": (httpcore.ReadTimeout, httpx.ReadTimeout),
}
_SAID: dict[Phase, str] = {
    "pool": "no connection was free",
    "connect": "no connection",
    "write": "the request was not sent",
    "read": "the answer was not complete",
}
_BEGINS: dict[str, Phase] = {
    "connect_tcp.started": "connect",
    "connect_unix_socket.started": "connect",
    "send_request_headers.started": "write",
    "receive_response_headers.started": "read",
}
"""Events of httpx's `trace` extension, without the protocol in front."""


class TimeBudget:
    """What an attempt may still take, on the clock of time.monotonic."""

    def __init__(self, step: SendRequest) -> None:
        self.phase: Phase = "pool"
        """The one that was begun last."""
        self._total_s = float("inf") if step.left_s is None else step.left_s
        self._end_s = time.monotonic() + self._total_s
        self._limits_s: dict[Phase, float] = {
            "pool": float("inf"),
            "connect": step.connect_timeout_s,
            "write": step.read_timeout_s,
            "read": step.read_timeout_s,
        }
        self._phase_end_s = float("inf")

    def left_s(self, phase: Phase) -> float:
        """Seconds left for `phase`, whose time starts when it follows another one; 0 or less when it is over."""
        now_s = time.monotonic()
        if phase != self.phase:  # a proxy is connected to, written to and read from before the service is
            self.phase, self._phase_end_s = phase, now_s + self._limits_s[phase]
        return min(self._end_s, self._phase_end_s) - now_s

    def check(self) -> None:
        """Raise httpx.ReadTimeout when the time to read is over: the look that any transport's answer gets."""
        if self.left_s("read") <= 0:
            raise httpx.ReadTimeout(self.sentence())

    def sentence(self) -> str:
        """What it means that the time of the present phase is over."""
        by_deadline = self._end_s <= self._phase_end_s
        return f"{_SAID[self.phase]} after {self._total_s if by_deadline else self._limits_s[self.phase]:.3g} s"


# Asynchronous calls -------------------------------------------------------------------------------------------

Trace = Callable[[str, dict[str, Any]], Awaitable[None]]


@asynccontextmanager
async def async_deadline(step: SendRequest) -> AsyncIterator[Trace]:
    """Gives the hook by which httpx tells of phases. Raises httpx.TimeoutException when one takes too long."""
    allowance = TimeBudget(step)
    try:
        async with asyncio.timeout(step.left_s) as limit:

            async def trace(event: str, _: dict[str, Any]) -> None:
                phase = _BEGINS.get(event.partition(".")[2])
                if phase is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + allowance.left_s(phase))

            yield trace
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise _ERRORS[allowance.phase][1](allowance.sentence()) from exc


# Synchronous calls --------------------------------------------------------------------------------------------

_allowance: ContextVar[TimeBudget | None] = ContextVar("allowance", default=None)
"""Of the attempt that this thread makes."""


@contextmanager
def sync_deadline(step: SendRequest) -> Iterator[TimeBudget]:
    """An attempt of a client that was given to `hold`."""
    allowance = TimeBudget(step)
    token = _allowance.set(allowance)
    try:
        yield allowance
    finally:
        _allowance.reset(token)


def hold(client: httpx.Client) -> None:
    """Put clocks on the sockets of `client`; transports other than httpx's own keep their own bounds."""
    # httpx has no argument for the network backend of its pools, and a transport of ours would lose the proxies
    # that it takes from the environment. An httpx that has changed inside is left with its bounds on pauses.
    try:
        for transport in (client._transport, *client._mounts.values()):
            if isinstance(transport, httpx.HTTPTransport):
                _hold_pool(transport._pool)
    except AttributeError as exc:
        _logger.warning("this httpx bounds the pauses in connecting and writing, not the whole (%s)", exc)


def _hold_pool(pool: Any) -> None:
    if not isinstance(pool._network_backend, _Backend):  # another client may share it
        pool._network_backend = _Backend(pool._network_backend)


@contextmanager
def _bounded(phase: Phase, timeout: float | None) -> Iterator[float | None]:
    """Seconds for one call of a socket. Raises the phase's httpcore.TimeoutException when they are over."""
    allowance = _allowance.get()
    if allowance is None:
        yield timeout
        return
    try:
        left_s = allowance.left_s(phase)
        if left_s <= 0:
            raise _ERRORS[phase][0]
        yield left_s if timeout is None else min(left_s, timeout)
    except httpcore.TimeoutException as exc:
        raise _ERRORS[phase][0](allowance.sentence()) from exc


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        with _bounded("connect", timeout) as seconds:
            return _Stream(self._inner.connect_tcp(host, port, seconds, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        with _bounded("connect", timeout) as seconds:
            return _Stream(self._inner.connect_unix_socket(path, seconds, socket_options))

    def sleep(self, seconds: float) -> None:
        with _bounded("connect", seconds) as left_s:
            self._inner.sleep(seconds if left_s is None else left_s)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _bounded("read", timeout) as seconds:
            return self._inner.read(max_bytes, seconds)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE_BYTES):
            with _bounded("write", timeout) as seconds:
                self._inner.write(buffer[start : start + _PIECE_BYTES], seconds)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        with _bounded("connect", timeout) as seconds:
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
