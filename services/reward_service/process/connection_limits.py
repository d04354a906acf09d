"""Connection limits, before and after authentication: bytes and seconds of request headers, pipelined requests.

    connection ───┐                             ┌─ complete ─▶ the application, which authenticates
    response sent ┴─▶ request headers, timed ───┼─ more than 64 KiB ─▶ 431, closed
                                                └─ not complete in 30 s ─▶ closed

Headers include the request line. uvicorn's own protocol collects headers without a limit of bytes or time, and any
number of requests that arrive before the response to the first one. The timer stops while a response is pending:
bodies have other limits (`admission/body_limits.py`), and a response that the client does not read has
`MAX_STALL_S`.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

__all__ = ["MAX_HEADER_BYTES", "MAX_HEADER_S", "MAX_PIPELINED", "MAX_STALL_S", "LimitedHttpProtocol"]

MAX_HEADER_BYTES = 64 * 1024
"""Bytes of one request's headers: eight times what servers and proxies usually allow."""
MAX_HEADER_S = 30.0
"""Seconds in which they must arrive, since the connection or the last response on it."""
MAX_PIPELINED = 16
"""Requests of one connection that may wait for the response to an earlier one; few clients send a second."""
MAX_STALL_S = 180.0
"""Seconds that a client may leave a response unread, which keeps it in memory."""


Timed = Literal["headers", "reading", None]
"""Request headers, or the client reading a response; None while a response is pending."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on everything except bodies."""

    max_header_s = MAX_HEADER_S
    max_stall_s = MAX_STALL_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unread = 0
        """Bytes since the end of the last headers, or since the last part of a body."""
        self._timer: TimerHandle | None = None
        self._timed: Timed = None
        """What the timer runs for."""

    # Bytes ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            piece = data[: MAX_HEADER_BYTES - self._unread]
            data = data[len(piece) :]
            self._unread += len(piece)
            super().data_received(piece)
            if self._unread >= MAX_HEADER_BYTES:
                self._reject_headers()

    def on_headers_complete(self) -> None:
        self._unread = 0
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _TooManyRequestsError  # makes the parser call send_400_response
        super().on_headers_complete()
        self._update_timer()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        if self._response_pending:  # a second one would be sent in the middle of it
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _reject_headers(self) -> None:
        if self.transport.is_closing():
            return
        self.logger.warning("request headers have more than %d bytes: the connection is closed", MAX_HEADER_BYTES)
        if self._response_pending:
            self.transport.abort()
            return
        self.transport.write(STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    @property
    def _response_pending(self) -> bool:
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
        """Start the timer for what is expected now, unless it runs for that already."""
        timed: Timed = "headers"
        if self.flow.write_paused:
            timed = "reading"
        elif self._response_pending:
            timed = None
        if timed == self._timed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timed = timed
        limits: dict[Timed, float] = {"headers": self.max_header_s, "reading": self.max_stall_s}
        self._timer = self.loop.call_later(limits[timed], self._on_timeout) if timed is not None else None

    def _on_timeout(self) -> None:
        if (
            self._timed == "headers" and self.transport.get_write_buffer_size()
        ):  # the client is still reading the last response
            self._timed = "reading"
            self._timer = self.loop.call_later(self.max_stall_s, self._on_timeout)
        else:
            self.transport.abort()


class _TooManyRequestsError(Exception):
    """More pipelined requests than a connection may send."""
