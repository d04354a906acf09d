"""Limits of one connection, with or without an API key: number, size and time of request heads, write stalls.

    connection opened ─┬─ more than `max_connections`, or its address's share ─▶ 503, connection closed
                       ▼
    response sent ─▶ read a request head, ──┬─ complete ─▶ the application, which checks the key
                     timer started          ├─ longer than 64 KiB ─▶ 431, connection closed
                                            └─ not complete in 30 s ─▶ connection aborted

A head is the request line and the header lines. uvicorn limits neither the number of connections or header lines,
nor the time until a head is complete. The timer is stopped while the application handles a request:
`admission/transfer.py` limits the body, and `MAX_STALL_S` a response that the client does not read.
"""

import asyncio
from asyncio.events import TimerHandle
from typing import Any, Literal

from reward_service.fair_share import caller_address
from reward_service.process.connections import Connections
from reward_service.process.http_protocol import HEAD_END, CompleteHttpProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of a request head: eight times the usual limit of servers and proxies."""
SMALL_HEAD_BYTES = 8 * 1024
"""Bytes of an incomplete head above which it counts against `connections.MAX_LARGE_HEADS_BYTES`."""
MAX_HEAD_S = 30.0
"""Seconds until a request head is complete, from the opening of the connection or the end of its last response."""
MAX_STALL_S = 180.0
"""Seconds that a client may leave a response unread, which stays in memory meanwhile."""
REFUSED_S = 2.0
"""Seconds in which a client over the number of connections may read its 503."""

Timed = Literal["head", "write", None]
"""What the timer limits: receiving a request head, or a blocked write. None while the application handles a
request."""


class LimitedHttpProtocol(CompleteHttpProtocol):
    """The HTTP protocol with limits for everything but the body."""

    max_head_s = MAX_HEAD_S
    max_stall_s = MAX_STALL_S

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shared = connections
        self._caller = ""
        self._head_bytes = 0
        """Bytes received since the parser last completed a head or received part of a body."""
        self._large_head_bytes = 0
        """Bytes of a large head that are counted in `connections`."""
        self._timer: TimerHandle | None = None
        self._timed: Timed = None

    # Number ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._caller = caller_address(self.client[0]) if self.client else "local"
        refused = self._shared.open(self, self._caller)
        if refused is None:
            self._update_timer()
        elif self._shared.may_answer_refused:
            self._refuse(503, refused, b"retry-after: 1", discard_s=REFUSED_S)
        else:
            self._log_refusal(503, refused)
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._shared.close(self, self._caller)
        self._count_large_head(0)
        if self._timer is not None:
            self._timer.cancel()

    # Size ------------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        if self._body_left >= len(data):  # no head
            super()._parse(data)
            return
        while data and not self._discards and not self.transport.is_closing():
            if self._is_busy:
                self._keep_unparsed(self._unparsed + data)
                return
            piece = data[: MAX_HEAD_BYTES - self._head_bytes]
            data = data[len(piece) :]
            self._head_bytes += len(piece)
            super()._parse(piece)
            if self._has_room_for_head(self._head_bytes) and self._head_bytes >= MAX_HEAD_BYTES:
                self._refuse_head(431, "the head of the request has more than 64 KiB")

    def _end_of_part(self, data: bytes, position: int) -> int:
        """Refuses a large head without room before it is searched for its end and parsed, which takes long."""
        n_bytes = self._head_bytes + len(data) - position
        if n_bytes > SMALL_HEAD_BYTES and not self._in_body:
            ends_soon = data.find(HEAD_END, position, position + SMALL_HEAD_BYTES) >= 0
            if not ends_soon and not self._has_room_for_head(min(n_bytes, MAX_HEAD_BYTES)):
                return len(data)
        return super()._end_of_part(data, position)

    def _has_room_for_head(self, n_bytes: int) -> bool:
        """Whether `n_bytes` of a head, or of trailers, may occupy memory; otherwise they are refused."""
        if n_bytes <= SMALL_HEAD_BYTES or self._count_large_head(n_bytes):
            return True
        self._refuse_head(503, "too many large request heads are being received", b"retry-after: 1")
        return False

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        self._count_large_head(0)
        super().on_headers_complete()
        self._update_timer()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def _refuse_head(self, status: int, detail: str, *headers: bytes) -> None:
        if self.transport.is_closing() or self._discards:
            return
        self._shared.refuse(self)
        if self._is_responding or not self._shared.may_answer_refused:
            self._log_refusal(status, detail)
            self.transport.abort()
        else:
            self._refuse(status, detail, *headers)

    def _log_refusal(self, status: int, detail: str) -> None:
        self._shared.log_refusal(self._caller, f"{status} {detail}")

    def _count_large_head(self, n_bytes: int) -> bool:
        """Count `n_bytes` for the head being received; False if large heads occupy all the memory for them."""
        more = n_bytes - self._large_head_bytes
        if more > 0 and not self._shared.head_bytes.allows(self._caller, more):
            return False
        if more:
            self._shared.head_bytes.add(self._caller, more)
            self._large_head_bytes = n_bytes
        return True

    # Time -------------------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._update_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._update_timer()

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
