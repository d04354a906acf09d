"""A hostile client with one API key, as a process with the lowest priority.

    python -m load.attacker PORT KEY SEED SECONDS [--workers 24]   stdout: Outcome as JSON

Each worker has one connection at a time, sends a random request of `hostile_requests` in a random way, and counts
the status and the bytes of the reply:

    plain      as other clients do               silent      the head, then nothing
    slow       a byte now and then               endless     chunks until it is stopped
    wrong size declared too large or too small   half-close  no more is sent, the reply is read
    pipelined  several at once                   unread      the reply is not read
    hang up    in the middle                     crowd       200 connections with half a head
    no HTTP    random bytes
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from load.hostile_requests import HostileRequest, draw

__all__ = ["DELIVERIES", "Attacker", "Outcome"]

_REPLY_S = 180.0
"""Seconds for which a reply is waited for: more than the service takes for any."""
_MAX_HOLD_S = 15.0
_CROWD = 200
_SMALL_BUFFER = 4096
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)


@dataclass
class Outcome:
    """What came back."""

    by_kind: Counter[str] = field(default_factory=Counter)
    """Number by kind of request and status; status 0 without a response."""
    by_delivery: Counter[str] = field(default_factory=Counter)
    longest_error_bytes: int = 0
    longest_error: str = ""
    """Kind of the request that got it."""
    slowest_refusal_s: float = 0.0
    slowest_refusal: str = ""
    unanswered: Counter[str] = field(default_factory=Counter)
    """Plain requests without any response, by kind."""


@dataclass
class _Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    until_s: float

    async def send(self, data: bytes) -> None:
        """Send `data`; a server that closed the connection is no error, because its reply may be readable."""
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    def end(self) -> None:
        """Send nothing more, and go on reading.

        The server may have closed the connection already: the ENOTCONN of that is no `ConnectionError`.
        """
        with suppress(OSError):
            self.writer.write_eof()

    async def reply(self) -> tuple[int, int]:
        """Status and bytes of the first reply, or of all if it has no length or more than one arrives."""
        received = bytearray()
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(_REPLY_S):
                while not _is_complete(received) and (data := await self.reader.read(65536)):
                    received += data
                    received = received.removeprefix(_CONTINUE)
        status = _STATUS.match(received)
        return int(status[1]) if status else 0, len(received)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, min(seconds, self.until_s - time.monotonic())))


def _is_complete(received: bytearray) -> bool:
    """Whether a response with a length is complete."""
    end = received.find(b"\r\n\r\n")
    length = _LENGTH.search(received, 0, max(end, 0) + 2)
    return end >= 0 and length is not None and len(received) >= end + 4 + int(length[1])


Delivery = Callable[[_Wire, bytes, bytes, random.Random], Awaitable[None]]


def _head(request: HostileRequest, port: int, key: str, length: int | None, close: bool = True) -> bytes:
    headers = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json", "X-API-Key": key}
    headers |= {"Connection": "close"} if close else {}
    headers |= {"Content-Length": str(length)} if length is not None else {"Transfer-Encoding": "chunked"}
    headers |= request.headers
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n"


class Attacker:
    """Workers that send hostile requests until `seconds` have passed.

    Args:
        port: of the service on the loopback.
        key: an API key; without keys it has no effect.
        seed: of all random choices.
    """

    def __init__(self, port: int, key: str, seed: int) -> None:
        self.outcome = Outcome()
        self._port = port
        self._key = key
        self._seed = seed

    async def run(self, workers: int, seconds: float) -> Outcome:
        """Attack; the outcome."""
        self._until_s = time.monotonic() + seconds
        await asyncio.gather(*(self._work(random.Random(f"{self._seed} {n}")) for n in range(workers)))
        return self.outcome

    async def _work(self, rng: random.Random) -> None:
        while time.monotonic() < self._until_s:
            request, delivery = draw(rng), rng.choices(list(DELIVERIES), list(_WEIGHTS.values()))[0]
            with suppress(ConnectionError, TimeoutError):
                await self._attack(request, delivery, rng)

    async def _attack(self, request: HostileRequest, delivery: str, rng: random.Random) -> None:
        limit = _SMALL_BUFFER if delivery == "unread" else 65536  # twice that is read at most
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=limit)
        if delivery == "unread":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        wire, began = _Wire(reader, writer, self._until_s), time.monotonic()
        try:
            await DELIVERIES[delivery](self, wire, request, rng)
            hung_up = delivery in {"hang up", "unread", "crowd", "silent"}
            status, size = (0, 0) if hung_up else await wire.reply()
        finally:
            writer.transport.abort()
        self._count(request.kind, delivery, status, size, time.monotonic() - began)

    def _count(self, kind: str, delivery: str, status: int, size: int, seconds: float) -> None:
        outcome = self.outcome
        outcome.by_kind[f"{kind}: {status}"] += 1
        outcome.by_delivery[f"{delivery}: {status}"] += 1
        if delivery == "plain" and status == 0:
            outcome.unanswered[kind] += 1
        if status >= 400 and size > outcome.longest_error_bytes:
            outcome.longest_error_bytes, outcome.longest_error = size, f"{kind}, {delivery}, {status}"
        if delivery == "plain" and status in {413, 415, 422, 429} and seconds > outcome.slowest_refusal_s:
            outcome.slowest_refusal_s, outcome.slowest_refusal = seconds, f"{kind}, {status}"

    # Deliveries -------------------------------------------------------------------------------------------------

    async def plain(self, wire: _Wire, request: HostileRequest, _: random.Random) -> None:
        await wire.send(_head(request, self._port, self._key, len(request.body)) + request.body)

    async def slow(self, wire: _Wire, request: HostileRequest, rng: random.Random) -> None:
        data = _head(request, self._port, self._key, len(request.body)) + request.body
        cut = rng.choice([10, len(data) - len(request.body), len(data) // 2])
        await wire.send(data[:cut])
        for at in range(cut, min(len(data), cut + 10)):
            await wire.send(data[at : at + 1])
            await wire.pause(0.5)
        await wire.send(data[cut + 10 :])

    async def silent(self, wire: _Wire, request: HostileRequest, rng: random.Random) -> None:
        length = rng.choice([len(request.body), 33_554_432, 10**9])
        await wire.send(_head(request, self._port, self._key, length) + request.body[: rng.choice([0, 10])])
        await wire.pause(rng.uniform(1.0, _MAX_HOLD_S))

    async def endless(self, wire: _Wire, request: HostileRequest, rng: random.Random) -> None:
        await wire.send(_head(request, self._port, self._key, None))
        chunk = rng.choice([b" ", b"[" * 1000, b"x" * 65536])
        for _ in range(rng.choice([10, 1000])):
            await wire.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await wire.pause(rng.choice([0.0, 0.01]))
        if rng.random() < 0.5:
            await wire.send(b"0\r\n\r\n")
        wire.end()

    async def wrong_size(self, wire: _Wire, request: HostileRequest, rng: random.Random) -> None:
        length = rng.choice([0, 1, len(request.body) // 2, len(request.body) + 1000, 10**12])
        await wire.send(_head(request, self._port, self._key, length) + request.body)
        wire.end()

    async def half_close(self, wire: _Wire, request: HostileRequest, rng: random.Random) -> None:
        await self.plain(wire, request, rng)
        wire.end()

    async def pipelined(self, wire: _Wire, request: HostileRequest, rng: random.Random) -> None:
        data = _head(request, self._port, self._key, len(request.body), close=False) + request.body
        await wire.send(data * min(rng.randint(2, 40), 1 + 20_000_000 // len(data)))
        wire.end()

    async def unread(self, wire: _Wire, request: HostileRequest, rng: random.Random) -> None:
        await self.plain(wire, request, rng)
        await wire.pause(rng.uniform(1.0, _MAX_HOLD_S))

    async def hang_up(self, wire: _Wire, request: HostileRequest, rng: random.Random) -> None:
        await self.plain(wire, request, rng)
        await wire.pause(rng.choice([0.0, 0.1, 1.0]))

    async def crowd(self, wire: _Wire, request: HostileRequest, rng: random.Random) -> None:
        others = []
        with suppress(OSError):
            for _ in range(_CROWD):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                others.append(writer)
                writer.write(f"POST {request.path[:100]} HTTP/1.1\r\nX-Long: ".encode() + b"x" * 1000)
        await wire.pause(rng.uniform(0.0, 5.0))
        for writer in others:
            writer.transport.abort()

    async def no_http(self, wire: _Wire, _: HostileRequest, rng: random.Random) -> None:
        await wire.send(
            rng.choice([rng.randbytes(1000), b"\x16\x03\x01" + rng.randbytes(200), b"GET", b"\r\n" * 100])
        )
        wire.end()


DELIVERIES = {
    "plain": Attacker.plain,
    "slow": Attacker.slow,
    "silent": Attacker.silent,
    "endless": Attacker.endless,
    "wrong size": Attacker.wrong_size,
    "half-close": Attacker.half_close,
    "pipelined": Attacker.pipelined,
    "unread": Attacker.unread,
    "hang up": Attacker.hang_up,
    "crowd": Attacker.crowd,
    "no HTTP": Attacker.no_http,
}
_WEIGHTS = dict.fromkeys(DELIVERIES, 1) | {"plain": 10}


def main() -> None:
    """Attack, and print the outcome."""
    parser = argparse.ArgumentParser(prog="python -m load.attacker")
    parser.add_argument("port", type=int)
    parser.add_argument("key")
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--workers", type=int, default=24)
    options = parser.parse_args()
    os.nice(19)  # an attacker elsewhere takes no processor time of the service
    attacker = Attacker(options.port, options.key, options.seed)
    outcome = asyncio.run(attacker.run(options.workers, options.seconds))
    json.dump(vars(outcome), sys.stdout)


if __name__ == "__main__":
    main()
