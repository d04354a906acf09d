"""The HTTP client of the load tests: each response belongs to its request, a broken connection is an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from load.http_client import HttpClient, Response, refusing_server

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The body of the next request; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(int(length.partition(b":")[2]))


def http_response(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


class Echo:
    """Responds with the body of the request; counts connections."""

    def __init__(self, *headers: bytes) -> None:
        self.connections = 0
        self._headers = headers

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while body := await read_request(reader):
            writer.write(http_response(body, *self._headers))
            if b"connection: close" in self._headers:
                break
        writer.close()


def run_against(serve: Serve, scenario: Callable[[HttpClient], Awaitable[None]]) -> None:
    """Run `scenario` with a client of a server that handles connections with `serve`."""

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, HttpClient("127.0.0.1", server.sockets[0].getsockname()[1], "/score") as client:
            await scenario(client)

    asyncio.run(run())


def test_sequential_posts_share_a_connection_and_concurrent_posts_have_one_each() -> None:
    echo = Echo(b"Retry-After: 7")

    async def scenario(client: HttpClient) -> None:
        first = await client.post(b"first")
        assert (first.status, first.body, first.header("retry-after")) == (200, b"first", "7")
        assert (await client.post(b"second")).body == b"second"
        assert echo.connections == 1

        replies = await asyncio.gather(*(client.post(b"%d" % n) for n in range(20)))
        assert [reply.body for reply in replies] == [b"%d" % n for n in range(20)]
        assert echo.connections == 20

    run_against(echo, scenario)


def test_a_chunked_response_is_complete() -> None:
    async def chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        await writer.drain()
        writer.write(b"1\r\nc\r\n0\r\n\r\n")
        writer.close()

    async def scenario(client: HttpClient) -> None:
        assert (await client.post(b"x")).body == b"abc"

    run_against(chunks, scenario)


def test_a_connection_that_the_server_closes_is_not_reused() -> None:
    echo = Echo(b"connection: close")

    async def scenario(client: HttpClient) -> None:
        for n in range(3):
            assert (await client.post(b"%d" % n)).body == b"%d" % n
        assert echo.connections == 3

    run_against(echo, scenario)


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhalf", b"no HTTP at all\r\n\r\n"]
)
def test_an_incomplete_response_is_an_error(sent: bytes) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(sent)
        writer.close()

    async def scenario(client: HttpClient) -> None:
        with pytest.raises(ConnectionError):
            await client.post(b"x")

    run_against(broken, scenario)


def test_a_late_response_does_not_reach_another_request() -> None:
    released = asyncio.Event()

    async def first_response_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while body := await read_request(reader):
            if body == b"early":
                await released.wait()
            writer.write(http_response(body))
        writer.close()

    async def scenario(client: HttpClient) -> None:
        with pytest.raises(TimeoutError):
            await client.post(b"early", timeout_s=0.05)
        released.set()
        assert (await client.post(b"next")).body == b"next"

    run_against(first_response_late, scenario)


def test_the_refusing_server_refuses_every_request() -> None:
    async def scenario() -> list[Response]:
        async with refusing_server() as port, HttpClient("127.0.0.1", port, "/score") as client:
            return [await client.post(b"x") for _ in range(3)]

    assert [(one.status, one.header("retry-after")) for one in asyncio.run(scenario())] == [(429, "1")] * 3
