"""HTTP/1.1 posts that cost their sender little: who shares two cores with a service must not slow it by asking.

    post(body) ─▶ an idle connection, or a new one ─▶ reply ─▶ the connection is idle again

httptools, which parses for uvicorn, does the reading; aiohttp's client took twice the processor time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

import httptools

__all__ = ["Reply", "Wire", "refusing"]

_MAX_IDLE_S = 15.0
"""Less than the service's own, so that nothing is sent into a connection that is being closed there."""


@dataclass
class Reply:
    """What came back."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""

    def header(self, name: str) -> str:
        """A header, or an empty string."""
        return self.headers.get(name.encode(), b"").decode()


class Wire:
    """Connections to one address, as many as there are posts at a time, all to the same path."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._address = host, port
        self._head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: ".encode()
        self._idle: list[_Connection] = []
        self._all: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._all:
            connection.close()

    async def post(self, body: bytes, timeout_s: float = 180.0) -> Reply:
        """The reply to `body`. Raises OSError when the connection fails, TimeoutError after `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            connection = self._unused() or await self._open()
            try:
                reply = await connection.ask(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            except BaseException:
                connection.close()  # nobody waits for its answer any more
                raise
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        return reply

    def _unused(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and time.monotonic() - connection.idle_since < _MAX_IDLE_S:
                return connection
            connection.close()
        return None

    async def _open(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, *self._address)
        self._all.append(connection)
        return connection


class _Connection(asyncio.Protocol):
    """One connection; one question at a time. Methods named on_… are httptools'."""

    def __init__(self) -> None:
        self.closed = False
        self.idle_since = 0.0
        self._answer: asyncio.Future[Reply] | None = None

    def ask(self, request: bytes) -> asyncio.Future[Reply]:
        """Send `request`; its reply."""
        self._answer = asyncio.get_running_loop().create_future()
        if self.closed:
            self._answer.set_exception(ConnectionResetError("closed while it was idle"))
        else:
            self._reply, self._parser = Reply(), httptools.HttpResponseParser(self)
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._fail(ConnectionError(f"no HTTP came back: {exc}"))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._fail(exc or ConnectionResetError("closed before the answer was whole"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.headers[name.lower()] = value

    def on_body(self, part: bytes) -> None:
        self._reply.body += part

    def on_message_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()
        self.closed |= not self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._reply)

    def _fail(self, exc: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc)


@asynccontextmanager
async def refusing() -> AsyncIterator[int]:
    """A server that says 429 to everything, at once; its port."""
    server = await asyncio.get_running_loop().create_server(_Refuser, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class _Refuser(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")
