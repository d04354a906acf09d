"""uvicorn's HTTP/1.1 protocol with the parts of RFC 9110 and 9112 that it lacks.

    Upgrade: h2c         the upgrade is ignored and the body is read (uvicorn drops the body)
    pipelined requests   answered one after another, in order; unparsed bytes wait, and reading stops at 64 KiB
    half-close           requests that arrived before the client's FIN are answered, then the connection is closed
    closing              a body that still arrives is discarded for a while: a reset would destroy the response
    Expect               a refusal without `100 Continue` closes the connection, because the body may not follow

A client that has closed its socket and one that has only closed its sending side look the same. While such a
request is worked on, interim responses (`100 Continue`, which every client skips) are sent: a closed socket
answers them with a reset, and the work is cancelled.
"""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import httptools
from uvicorn._types import HTTPScope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

MAX_UNPARSED_BYTES = 64 * 1024
"""Bytes of pipelined requests that are read ahead while an earlier request is answered."""
MAX_DISCARDED_BYTES = 128 * 1024 * 1024
"""Bytes of a refused body that are read and discarded: four times the default of `max_body_bytes`."""
DISCARD_BYTES_PER_S = 32 * 1024 * 1024
"""Rate at which the refused body of one connection is read: as fast as it is sent, that would cost a core."""
DISCARD_S = 30.0
"""Seconds in which a refused body is discarded before the connection is reset."""
FIRST_PROBE_S = 0.5
"""Seconds from a client's FIN until the first interim response; each later one takes twice as long."""

HEAD_END = b"\r\n\r\n"
_MIN_BODY_PIECE = 1024
"""Bytes of a body in which no head is looked for, because CRLFCRLF may be data."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_UPGRADE_HEADERS = frozenset({b"upgrade", b"http2-settings"})


class CompleteHttpProtocol(HttpToolsProtocol):
    """One connection. Handles upgrades, pipelining, half-closed connections and discarded bodies."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._active: RequestResponseCycle | None = None
        """The request that the application handles, or has handled last."""
        self._unparsed = b""
        self._ignores_upgrade = False
        """Whether the current head asked for an upgrade: it is parsed again without it."""
        self._client_finished = False
        self._body_left = 0
        """Bytes of the current body that are still to come, if its length was declared."""
        self._discarded = 0
        """Bytes of a body that arrived after its response."""
        self._discards = 0
        """Bytes that may still be discarded before the connection is reset; 0 unless it is being closed."""
        self._cycle_transport: SimpleNamespace | None = None
        self._end_timer: asyncio.TimerHandle | None = None

    # Receiving ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._discards:
            self._discard(len(data))
            self._read_later(len(data))
        elif self._is_busy:
            self._keep_unparsed(self._unparsed + data)
        else:
            self._feed(data)

    @property
    def _is_busy(self) -> bool:
        """Whether a request that was received completely is not answered yet."""
        active = self._active
        return active is not None and not active.response_complete and not active.more_body

    @property
    def _in_body(self) -> bool:
        """Whether a body is being received."""
        return self._active is not None and self._active.more_body

    @property
    def _is_responding(self) -> bool:
        return self._active is not None and not self._active.response_complete

    def _keep_unparsed(self, data: bytes) -> None:
        self._unparsed = data
        if len(data) >= MAX_UNPARSED_BYTES:
            self.flow.pause_reading()

    def _feed(self, data: bytes) -> None:
        """Parse `data`, a head or a body at a time, until a request has to be answered first."""
        position = 0
        while position < len(data) and not (self._is_busy or self._discards or self.transport.is_closing()):
            end = self._end_of_part(data, position)
            self._parse(data[position:end])
            position = end
        if position < len(data) and not self._discards:
            self._keep_unparsed(self._unparsed + data[position:])

    def _end_of_part(self, data: bytes, position: int) -> int:
        """Where the head or the body at `position` ends, or a piece of a body in chunks; may be after `data`."""
        if self._body_left > 0:
            return position + self._body_left
        end = data.find(HEAD_END, position + _MIN_BODY_PIECE * self._in_body)
        return end + len(HEAD_END) if end >= 0 else len(data)

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if self._ignores_upgrade:
                self._parse_without_upgrade(data[exc.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._ignores_upgrade = True
            return
        self._discarded = 0
        self._body_left = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        super().on_headers_complete()
        self.headers = []  # trailers, which arrive later, are no headers
        if self._cycle_transport is None:
            self._cycle_transport = SimpleNamespace(
                write=self.transport.write, is_closing=self.transport.is_closing, close=self._close
            )
        self.cycle.transport = cast(asyncio.Transport, self._cycle_transport)
        if self.expect_100_continue:
            self._close_unless_continued(self.cycle)

    def on_message_complete(self) -> None:
        if not self._ignores_upgrade:
            super().on_message_complete()

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Parse the current head again, with a new parser and without the headers that ask for an upgrade."""
        self._ignores_upgrade = False
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] not in _UPGRADE_HEADERS]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parse(b"\r\n".join(lines) + HEAD_END)
        self._feed(rest)

    def on_body(self, body: bytes) -> None:
        self._body_left -= len(body)
        super().on_body(body)
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.abort()
            self._read_later(len(body))

    def _read_later(self, n_bytes: int) -> None:
        """Read no more until `n_bytes` have taken their time at `DISCARD_BYTES_PER_S`."""
        if not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_later(n_bytes / DISCARD_BYTES_PER_S, self._read_again)

    def _read_again(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _close_unless_continued(self, cycle: RequestResponseCycle) -> None:
        """Close the connection after the response, unless `100 Continue` was sent: the body may not follow."""
        keep_alive, cycle.keep_alive = cycle.keep_alive, False

        def write(data: bytes) -> None:
            if data == _CONTINUE:
                cycle.keep_alive = keep_alive
            self.transport.write(data)

        transport = SimpleNamespace(write=write, is_closing=self.transport.is_closing, close=self._close)
        cycle.transport = cast(asyncio.Transport, transport)

    # Answering ---------------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self._discards:
            self.server_state.total_requests += 1
            return
        self._release_head()
        super().on_response_complete()
        if self._unparsed and not self._is_busy and not self.transport.is_closing():
            data, self._unparsed = self._unparsed, b""
            self._feed(data)
        if self._client_finished and not self._is_responding:
            self.transport.close()

    def _release_head(self) -> None:
        """Free the memory of the head that was answered: an idle connection may stay open for long."""
        if self._active is not None and self.scope is self._active.scope:
            self.headers, self.url = [], b""
            self._active.scope = self.scope = cast(HTTPScope, {})

    def send_400_response(self, msg: str) -> None:
        if self._is_responding:  # the 400 would be written into the middle of that response
            self.transport.abort()
            return
        self._refuse(400, msg)

    def _refuse(self, status: int, detail: str, *headers: bytes, discard_s: float = DISCARD_S) -> None:
        """Answer without the application, and close the connection."""
        self._log_refusal(status, detail)
        head = [b"content-type: text/plain; charset=utf-8", b"content-length: %d" % len(detail), *headers]
        lines = b"\r\n".join([*head, b"connection: close", b"", detail.encode("ascii")])
        self.transport.write(STATUS_LINE[status] + lines)
        self._close_discarding(MAX_UNPARSED_BYTES, discard_s)

    def _log_refusal(self, status: int, detail: str) -> None:
        self.logger.warning("closing a connection with status %d: %s", status, detail)

    # Closing -----------------------------------------------------------------------------------------------------

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more; True keeps the connection open until its requests are answered."""
        if self._discards or not self._is_busy:
            return False
        if not self._client_finished:
            self._client_finished = True
            self._probe_later(FIRST_PROBE_S)
        return True

    def _probe_later(self, seconds: float) -> None:
        self._end_timer = self.loop.call_later(seconds, self._probe, seconds)

    def _probe(self, seconds: float) -> None:
        active = self._active
        if active is None or self.transport.is_closing():
            return
        if not active.response_started and active.scope["http_version"] == "1.1":
            self.transport.write(_CONTINUE)
        self._probe_later(2 * seconds)

    def _close(self) -> None:
        """Close the connection after a response; if the request still arrives, discard it first."""
        incomplete = bool(self._unparsed) or self._active is None or self._active.more_body
        if incomplete and not self._client_finished:
            self._close_discarding(MAX_DISCARDED_BYTES, DISCARD_S)
        else:
            self.transport.close()

    def _close_discarding(self, n_bytes: int, seconds: float) -> None:
        """Close the sending side now and the rest when the client has, or after `n_bytes` or `seconds`."""
        if self.transport.is_closing() or self._discards:
            return
        self._unparsed = self.url = b""
        self.headers, self.scope = [], cast(HTTPScope, {})
        self._discards = n_bytes
        self.transport.write_eof()
        self.flow.resume_reading()
        self._end_timer = self.loop.call_later(seconds, self.transport.abort)

    def _discard(self, n_bytes: int) -> None:
        self._discards = max(1, self._discards - n_bytes)
        if self._discards == 1:
            self.transport.abort()

    def shutdown(self) -> None:
        if self._discards:
            self.transport.close()
        elif self._active is not None and not self._active.response_complete:
            self._active.keep_alive = False
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in (self._active, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)
        self._cycle_transport = None
        if self._end_timer is not None:
            self._end_timer.cancel()
