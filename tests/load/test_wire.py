"""The cheap caller of the soak: an answer is that of its own question, a broken connection an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from load.http_client import Reply, Wire, refusing

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def question(reader: asyncio.StreamReader) -> bytes:
    """The body of the next request; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(int(length.partition(b":")[2]))


def answer(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


class Echo:
    """Answers each question with itself; counts connections."""

    def __init__(self, *headers: bytes) -> None:
        self.connections = 0
        self._headers = headers

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while body := await question(reader):
            writer.write(answer(body, *self._headers))
            if b"connection: close" in self._headers:
                break
        writer.close()


def ask(serve: Serve, scenario: Callable[[Wire], Awaitable[None]]) -> None:
    """Run `scenario` with a wire to a server that does as `serve` says."""

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, Wire("127.0.0.1", server.sockets[0].getsockname()[1], "/score") as wire:
            await scenario(wire)

    asyncio.run(run())


def test_posts_one_after_the_other_share_a_connection_and_posts_at_once_have_their_own() -> None:
    echo = Echo(b"Retry-After: 7")

    async def scenario(wire: Wire) -> None:
        first = await wire.post(b"first")
        assert (first.status, first.body, first.header("retry-after")) == (200, b"first", "7")
        assert (await wire.post(b"second")).body == b"second"
        assert echo.connections == 1

        replies = await asyncio.gather(*(wire.post(b"%d" % n) for n in range(20)))
        assert [reply.body for reply in replies] == [b"%d" % n for n in range(20)]
        assert echo.connections == 20

    ask(echo, scenario)


def test_an_answer_in_chunks_is_whole() -> None:
    async def chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        await writer.drain()
        writer.write(b"1\r\nc\r\n0\r\n\r\n")
        writer.close()

    async def scenario(wire: Wire) -> None:
        assert (await wire.post(b"x")).body == b"abc"

    ask(chunks, scenario)


def test_a_connection_that_is_to_be_closed_is_not_used_again() -> None:
    echo = Echo(b"connection: close")

    async def scenario(wire: Wire) -> None:
        for n in range(3):
            assert (await wire.post(b"%d" % n)).body == b"%d" % n
        assert echo.connections == 3

    ask(echo, scenario)


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhalf", b"no HTTP at all\r\n\r\n"]
)
def test_no_whole_answer_is_an_error(sent: bytes) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        writer.write(sent)
        writer.close()

    async def scenario(wire: Wire) -> None:
        with pytest.raises(ConnectionError):
            await wire.post(b"x")

    ask(broken, scenario)


def test_an_answer_that_comes_too_late_is_nobody_elses() -> None:
    go_on = asyncio.Event()

    async def late_at_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while body := await question(reader):
            if body == b"early":
                await go_on.wait()
            writer.write(answer(body))
        writer.close()

    async def scenario(wire: Wire) -> None:
        with pytest.raises(TimeoutError):
            await wire.post(b"early", timeout_s=0.05)
        go_on.set()
        assert (await wire.post(b"next")).body == b"next"

    ask(late_at_first, scenario)


def test_the_control_refuses_everything() -> None:
    async def scenario() -> list[Reply]:
        async with refusing() as port, Wire("127.0.0.1", port, "/score") as wire:
            return [await wire.post(b"x") for _ in range(3)]

    assert [(reply.status, reply.header("retry-after")) for reply in asyncio.run(scenario())] == [(429, "1")] * 3
