"""A minimal HTTP/1.1 client for load generation, which shares two cores with the service that it measures.

    post(body) ─▶ an idle connection, or a new one ─▶ response ─▶ the connection is idle again

It parses with httptools, as uvicorn does; aiohttp's client took twice the processor time.
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

__all__ = ["HttpClient", "Response", "refusing_server"]

_MAX_IDLE_S = 15.0
"""Shorter than the service's keep-alive timeout, so that no request meets a closing connection."""


@dataclass
class Response:
    """Status, headers and body."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""

    def header(self, name: str) -> str:
        """The value of a header, or an empty string."""
        return self.headers.get(name.encode(), b"").decode()


class HttpClient:
    """Posts JSON to one path of one server, with as many connections as there are concurrent requests.

    Args:
        key: an API key, if the server needs one.
    """

    def __init__(self, host: str, port: int, path: str, key: str = "") -> None:
        self._address = host, port
        lines = [f"POST {path} HTTP/1.1", f"host: {host}:{port}", "content-type: application/json"]
        lines += [f"x-api-key: {key}"] if key else []
        self._head = "\r\n".join([*lines, "content-length: "]).encode()
        self._idle: list[_Connection] = []
        self._all: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._all:
            connection.close()

    async def post(self, body: bytes, timeout_s: float = 180.0) -> Response:
        """Send `body`. Raises OSError when the connection fails, TimeoutError after `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            connection = self._reusable() or await self._open()
            try:
                response = await connection.send(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            except BaseException:
                connection.close()  # a late response must not reach another request
                raise
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        return response

    def _reusable(self) -> _Connection | None:
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
    """One connection, with one request at a time. The methods on_… are callbacks of httptools."""

    def __init__(self) -> None:
        self.closed = False
        self.idle_since = 0.0
        self._pending: asyncio.Future[Response] | None = None

    def send(self, request: bytes) -> asyncio.Future[Response]:
        """Send `request` and return its response."""
        self._pending = asyncio.get_running_loop().create_future()
        if self.closed:
            self._pending.set_exception(ConnectionResetError("closed while it was idle"))
        else:
            self._response, self._parser = Response(), httptools.HttpResponseParser(self)
            self._transport.write(request)
        return self._pending

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._fail(ConnectionError(f"the response is not HTTP: {exc}"))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._fail(exc or ConnectionResetError("closed before the response was complete"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._response.headers[name.lower()] = value

    def on_body(self, part: bytes) -> None:
        self._response.body += part

    def on_message_complete(self) -> None:
        self._response.status = self._parser.get_status_code()
        self.closed |= not self._parser.should_keep_alive()
        if self._pending is not None and not self._pending.done():
            self._pending.set_result(self._response)

    def _fail(self, exc: Exception) -> None:
        if self._pending is not None and not self._pending.done():
            self._pending.set_exception(exc)


@asynccontextmanager
async def refusing_server() -> AsyncIterator[int]:
    """Run a server that responds to every request with 429 at once; its port."""
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
