"""What a connection may cost, before anybody has shown a key and after: bounds on bytes, time and requests.

    connection ─┐                            ┌─ whole ─▶ the application, which asks for the key
    answer sent ┴─▶ the head of a request, ──┼─ longer than 64 KiB ─▶ 431, closed
                    clock running            └─ not whole in 30 s ─▶ closed

A head is the request line and the header lines. uvicorn's own protocol gathers header lines for as long as they
come, and requests too, when they come before the answer to the first one. The clock stands still while an answer
is owed: a body has bounds of its own (`api/body.py`), and an answer that nobody takes has `MAX_STALL_S`.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

__all__ = ["MAX_HEAD_BYTES", "MAX_HEAD_S", "MAX_PIPELINED", "MAX_STALL_S", "LimitedHttpProtocol"]

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of one request's head: eight times what servers and proxies usually allow."""
MAX_HEAD_S = 30.0
"""Seconds in which it must have arrived, from the connection or from the last answer on it."""
MAX_PIPELINED = 16
"""Requests of one connection that wait for the answer to an earlier one; hardly any client sends a second."""
MAX_STALL_S = 180.0
"""Seconds that a caller may leave an answer lying, which keeps it in memory."""


Awaited = Literal["head", "taking", None]
"""A request's head, or that the caller takes an answer; nothing while an answer is owed and flows."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol; what is no body is counted and timed."""

    max_head_s = MAX_HEAD_S
    max_stall_s = MAX_STALL_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unread = 0
        """Bytes since the parser last came to the end of a head, or to a piece of a body."""
        self._clock: TimerHandle | None = None
        self._awaited: Awaited = None
        """What the clock runs for."""

    # Bytes ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            piece = data[: MAX_HEAD_BYTES - self._unread]
            data = data[len(piece) :]
            self._unread += len(piece)
            super().data_received(piece)
            if self._unread >= MAX_HEAD_BYTES:
                self._refuse()

    def on_headers_complete(self) -> None:
        self._unread = 0
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _TooManyError  # to the parser, which gives up: send_400_response
        super().on_headers_complete()
        self._set_clock()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        if self._owes_an_answer:  # a second one would stand in the middle of it
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        self.logger.warning("a request's head has more than %d bytes: its connection is closed", MAX_HEAD_BYTES)
        if self._owes_an_answer:
            self.transport.abort()
            return
        self.transport.write(STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    @property
    def _owes_an_answer(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    # Time -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_clock()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_clock()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_clock()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._set_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._clock is not None:
            self._clock.cancel()

    def _set_clock(self) -> None:
        """Time what is awaited now; a clock that runs for it already goes on."""
        awaited: Awaited = "head"
        if self.flow.write_paused:
            awaited = "taking"
        elif self._owes_an_answer:
            awaited = None
        if awaited == self._awaited:
            return
        if self._clock is not None:
            self._clock.cancel()
        self._awaited = awaited
        limits: dict[Awaited, float] = {"head": self.max_head_s, "taking": self.max_stall_s}
        self._clock = self.loop.call_later(limits[awaited], self._is_late) if awaited is not None else None

    def _is_late(self) -> None:
        if (
            self._awaited == "head" and self.transport.get_write_buffer_size()
        ):  # the last answer is still being taken
            self._awaited = "taking"
            self._clock = self.loop.call_later(self.max_stall_s, self._is_late)
        else:
            self.transport.abort()


class _TooManyError(Exception):
    """More requests at once than a connection may send."""
