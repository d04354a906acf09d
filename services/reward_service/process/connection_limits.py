"""Limits of one connection, with or without an API key: size and time of a request head, pipelining, write stalls.

    connection opened ─┐                          ┌─ complete ─▶ the application, which checks the key
    response sent ─────┴─▶ read a request head, ──┼─ longer than 64 KiB ─▶ 431, connection closed
                           timer started          └─ not complete in 30 s ─▶ connection aborted

A head is the request line and the header lines. uvicorn limits neither the number of header lines, nor the time
until a head is complete, nor the number of pipelined requests. The timer is stopped while the application handles
a request: `admission/transfer.py` limits the body, and `MAX_STALL_S` a response that the client does not read.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

__all__ = ["MAX_HEAD_BYTES", "MAX_HEAD_S", "MAX_PIPELINED", "MAX_STALL_S", "LimitedHttpProtocol"]

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of a request head: eight times the usual limit of servers and proxies."""
MAX_HEAD_S = 30.0
"""Seconds until a request head is complete, from the opening of the connection or the end of its last response."""
MAX_PIPELINED = 16
"""Requests of one connection that wait for an earlier response; most clients do not pipeline at all."""
MAX_STALL_S = 180.0
"""Seconds that a client may leave a response unread, which stays in memory meanwhile."""

Timed = Literal["head", "write", None]
"""What the timer limits: receiving a request head, or a blocked write. None while the application handles a
request."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits for everything but the body."""

    max_head_s = MAX_HEAD_S
    max_stall_s = MAX_STALL_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        """Bytes received since the parser last completed a head or received part of a body."""
        self._timer: TimerHandle | None = None
        self._timed: Timed = None

    # Size ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            piece = data[: MAX_HEAD_BYTES - self._head_bytes]
            data = data[len(piece) :]
            self._head_bytes += len(piece)
            super().data_received(piece)
            if self._head_bytes >= MAX_HEAD_BYTES:
                self._reject_head()

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _PipelineLimitError  # to the parser: uvicorn then calls send_400_response
        super().on_headers_complete()
        self._update_timer()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        if self._is_responding:  # the 400 would be written into the middle of that response
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _reject_head(self) -> None:
        if self.transport.is_closing():
            return
        self.logger.warning("request head larger than %d bytes: closing the connection", MAX_HEAD_BYTES)
        if self._is_responding:
            self.transport.abort()
            return
        self.transport.write(STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    @property
    def _is_responding(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    # Time -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._update_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._update_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _update_timer(self) -> None:
        """Start the timer of the current state; a timer that already runs for this state continues."""
        timed: Timed = "head"
        if self.flow.write_paused:
            timed = "write"
        elif self._is_responding:
            timed = None
        if timed == self._timed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timed = timed
        limits: dict[Timed, float] = {"head": self.max_head_s, "write": self.max_stall_s}
        self._timer = self.loop.call_later(limits[timed], self._on_timeout) if timed is not None else None

    def _on_timeout(self) -> None:
        unread = self.transport.get_write_buffer_size() > 0
        if self._timed == "head" and unread:  # the client still reads the last response
            self._timed = "write"
            self._timer = self.loop.call_later(self.max_stall_s, self._on_timeout)
        else:
            self.transport.abort()


class _PipelineLimitError(Exception):
    """A client pipelined more than `MAX_PIPELINED` requests."""
