"""Transfer of bodies: requests are received within limits of size and time, replies are sent in pieces.

    content-length ─▶ check_head ─▶ receive_body ─▶ …                    … ─▶ send_response
                      413, 422, or 503 with         408: too slow             waits while the client does not read
                      Retry-After, before any       413: longer than allowed
                      byte is read                  503: no memory for the rest

All of it is counted in the request's `MemoryClaim`.
"""

import asyncio
from collections.abc import Mapping
from mmap import mmap

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Send

from reward_service.admission.memory import (
    FURTHER_STRING_COST,
    STRING_COST,
    STRINGS_PER_ITEM,
    VALUE_COST,
    MemoryClaim,
)
from reward_service.errors import InvalidRequestError, SlowBodyError, TooLargeError
from reward_service.settings import Settings

GRACE_S = 10.0
"""Seconds before `min_body_bytes_per_s` applies: the start of a connection is slow, and so is a short pause."""
_MAPPED_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
"""Bytes of a reply that are given to the server at once; it waits when as many have not been sent."""


def check_head(headers: Mapping[bytes, bytes], claim: MemoryClaim, settings: Settings) -> None:
    """Check the declared length of a body, before it is received.

    Raises:
        InvalidRequestError: the body is compressed.
        TooLargeError: it is over `max_body_bytes`.
        NoRoomError: it has no room now.
    """
    refuse_compressed(headers)
    declared = declared_bytes(headers)
    _check_size(declared, settings)
    claim.expect(claim.byte_cost * declared)


def refuse_compressed(headers: Mapping[bytes, bytes]) -> None:
    """Raise InvalidRequestError if the body is compressed."""
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise InvalidRequestError("compressed bodies are not supported; send it without content-encoding")


async def receive_body(
    headers: Mapping[bytes, bytes],
    receive: Receive,
    claim: MemoryClaim,
    settings: Settings,
    max_wait_s: float,
    grace_s: float = GRACE_S,
) -> bytes | bytearray | mmap:
    """The whole body. It waits at most `max_wait_s` at a time for memory, which does not count as the client's.

    Raises:
        TooLargeError: the body is longer than `max_body_bytes`.
        NoRoomError: there was no memory for the rest of it.
        SlowBodyError: it arrived too slowly.
        ClientDisconnect: the client disconnected.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    body, cost = _Buffer(declared_bytes(headers)), _Cost(claim.byte_cost, settings)
    try:
        async with asyncio.timeout_at(began + _allowed_s(0, settings, grace_s)) as limit:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                _check_size(body.size + len(chunk), settings)
                limit.reschedule(None)
                began += await claim.take(cost.of(chunk), max_wait_s)
                if not message.get("more_body", False):
                    claim.complete()
                    return body.with_last(chunk)
                body.append(chunk)
                limit.reschedule(began + _allowed_s(body.size, settings, grace_s))
    except TimeoutError as exc:
        slowest = f", or at less than {settings.min_body_bytes_per_s} bytes per second"
        raise SlowBodyError(
            f"the body did not arrive within {settings.body_timeout_s:g} s{slowest}: {body.size} bytes came"
        ) from exc


async def send_response(response: Response, send: Send) -> None:
    """Send `response` in pieces, each when the client has taken most of the previous ones."""
    body = bytes(response.body)
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    for start in range(0, max(len(body), 1), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        await send({"type": "http.response.body", "body": body[start:end], "more_body": end < len(body)})


class _Cost:
    """What the chunks of one body are charged; it has at most `max_values` values, or is refused."""

    def __init__(self, byte_cost: int, settings: Settings) -> None:
        self._byte_cost = byte_cost
        self._max_values = self._max_strings = settings.max_values
        self._max_of_items = min(STRINGS_PER_ITEM * settings.max_items, settings.max_values)

    def of(self, chunk: bytes) -> int:
        """Bytes to charge for the next chunk."""
        strings, values = min(count_strings(chunk), self._max_strings), min(count_values(chunk), self._max_values)
        of_items = min(strings, self._max_of_items)
        self._max_strings -= strings
        self._max_of_items -= of_items
        self._max_values -= values
        in_strings = STRING_COST * of_items + FURTHER_STRING_COST * (strings - of_items)
        return self._byte_cost * len(chunk) + in_strings + VALUE_COST * values


def count_values(chunk: bytes) -> int:
    """At least the number of JSON values that end or begin in `chunk`; signs in texts count too."""
    return chunk.count(b",") + chunk.count(b"[") + chunk.count(b"{")


def count_strings(chunk: bytes) -> int:
    """About the number of JSON strings; at least half of it, whatever is escaped in them."""
    escaped = chunk.count(b'\\"') if b"\\" in chunk else 0
    return (chunk.count(b'"') - escaped) // 2


def _check_size(size: int, settings: Settings) -> None:
    if size > settings.max_body_bytes:
        raise TooLargeError(
            f"the body has more than {settings.max_body_bytes} bytes; send the items in several requests"
        )


def _allowed_s(size: int, settings: Settings, grace_s: float) -> float:
    """Seconds in which a body may be incomplete after `size` bytes."""
    slowest = settings.min_body_bytes_per_s
    limit = settings.body_timeout_s
    return min(limit, max(grace_s, size / slowest)) if slowest else limit


def declared_bytes(headers: Mapping[bytes, bytes]) -> int:
    """The declared length of a body; 0 without a valid declaration."""
    content_length = headers.get(b"content-length", b"")
    return int(content_length) if content_length.isdigit() and len(content_length) < 20 else 0


class _Buffer:
    """A body in parts. Memory is used as they arrive.

    A long body that was declared gets a mapping, whose pages the kernel clears and frees one by one.
    """

    def __init__(self, declared: int) -> None:
        self.size = 0
        self._declared = declared
        self._body: bytearray | mmap | None = None

    def append(self, chunk: bytes) -> None:
        if self._body is None:
            self._body = mmap(-1, self._declared) if self._declared > _MAPPED_BYTES else bytearray()
        end = self.size + len(chunk)
        if isinstance(self._body, mmap) and end > len(self._body):  # longer than declared; a mapping cannot grow
            self._body = bytearray(self._body[: self.size])
        self._body[self.size : end] = chunk
        self.size = end

    def with_last(self, chunk: bytes) -> bytes | bytearray | mmap:
        """The whole body."""
        if self._body is None:
            return chunk
        self.append(chunk)
        return self._body if len(self._body) == self.size else bytearray(self._body[: self.size])
