"""Receives a long body line by line: memory is held only for the lines that are being read.

    chunk ─▶ memory claimed ─▶ complete lines of about 64 KiB ─▶ processed by the caller ─▶ memory released ─▶ next

Its limits are `max_upload_bytes`, the length of a line, and `min_body_bytes_per_s`, of the time that the client
takes: the time that the service takes does not count.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from reward_client.wire import FieldError
from reward_service.admission.memory import BYTE_COST, STRING_COST, VALUE_COST, MemoryClaim
from reward_service.admission.transfer import (
    GRACE_S,
    count_strings,
    count_values,
    declared_bytes,
    refuse_compressed,
)
from reward_service.errors import SlowBodyError, TooLargeError
from reward_service.settings import Settings

_PIECE_BYTES = 64 * 1024
_MAX_WAIT_S = 10.0
"""Seconds that an upload waits for memory, of which it needs little."""
_BYTES_PER_CHAR = 6
"""Bytes of a character that is escaped in JSON."""


def max_line_bytes(settings: Settings) -> int:
    """Bytes of one line: the texts of an item, and as much as a piece for other columns."""
    return _BYTES_PER_CHAR * settings.max_item_chars + _PIECE_BYTES


async def receive_lines(
    headers: Mapping[bytes, bytes],
    receive: Receive,
    claim: MemoryClaim,
    settings: Settings,
    grace_s: float = GRACE_S,
) -> AsyncIterator[bytes]:
    """Pieces of the body that end with a line; the memory of one is released when the next is requested.

    Raises:
        InvalidRequestError: the body is compressed.
        TooLargeError: the body, or a line of it, is too long.
        NoRoomError: there was no memory for it.
        SlowBodyError: it arrived too slowly.
        ClientDisconnect: the client disconnected.
    """
    refuse_compressed(headers)
    _check_size(declared_bytes(headers), settings)
    body, client = _Lines(max_line_bytes(settings)), _ClientTime(settings.min_body_bytes_per_s, grace_s)
    size, more = 0, True
    while more:
        message = await client.time(receive, size)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        _check_size(size, settings)
        in_values = STRING_COST * count_strings(chunk) + VALUE_COST * count_values(chunk)
        await claim.take(BYTE_COST * len(chunk) + in_values, _MAX_WAIT_S)
        piece = body.add(chunk, last=not more)
        if piece:
            yield piece
            claim.keep(BYTE_COST * len(body.rest), is_reply=False)


class _Lines:
    """Collects chunks until they have complete lines."""

    def __init__(self, max_bytes: int) -> None:
        self.rest = bytearray()
        self._max_bytes = max_bytes
        self._n_lines = 0

    def add(self, chunk: bytes, *, last: bool) -> bytes:
        """The complete lines so far, if they are enough for a piece or the `last` ones; otherwise empty."""
        self.rest += chunk
        end = self.rest.rfind(b"\n") + 1
        if len(self.rest) - end > self._max_bytes:
            number = self._n_lines + self.rest.count(b"\n") + 1
            message = f"has more than {self._max_bytes} bytes"
            raise TooLargeError(f"line {number} {message}", [FieldError(field=f"line {number}", message=message)])
        if last:
            end = len(self.rest)
        elif len(self.rest) < _PIECE_BYTES:
            return b""
        piece = bytes(self.rest[:end])
        del self.rest[:end]
        self._n_lines += piece.count(b"\n")
        return piece


class _ClientTime:
    """The seconds that were spent waiting for the client."""

    def __init__(self, min_bytes_per_s: int, grace_s: float) -> None:
        self._min_bytes_per_s = min_bytes_per_s
        self._grace_s = grace_s
        self._spent_s = 0.0

    async def time(self, receive: Receive, n_bytes: int) -> Message:
        """The next message, after `n_bytes`. Raises SlowBodyError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        slowest = self._min_bytes_per_s
        allowed_s = max(self._grace_s, n_bytes / slowest) if slowest else math.inf
        try:
            async with asyncio.timeout(None if math.isinf(allowed_s) else max(0.0, allowed_s - self._spent_s)):
                message = await receive()
        except TimeoutError as exc:
            raise SlowBodyError(
                f"the body arrived at less than {slowest} bytes per second: {n_bytes} bytes came"
            ) from exc
        self._spent_s += loop.time() - began
        return message


def _check_size(size: int, settings: Settings) -> None:
    if size > settings.max_upload_bytes:
        raise TooLargeError(f"the body has more than {settings.max_upload_bytes} bytes, which is max_upload_bytes")
