"""A long body is received line by line: in bounded memory, at a bounded speed, up to bounded lengths."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from reward_service.admission.memory import MemoryBudget
from reward_service.admission.upload import max_line_bytes, receive_lines
from reward_service.errors import InvalidRequestError, SlowBodyError, TooLargeError
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics

SETTINGS = Settings(max_item_chars=1_000, max_waiting_bytes=4_000_000)
LINE = b'{"prompt": "' + b"a" * 1_000 + b'"}\n'


def body(*chunks: bytes, more: bool = False) -> list[Message]:
    last = len(chunks) - 1
    return [
        {"type": "http.request", "body": chunk, "more_body": more or n < last} for n, chunk in enumerate(chunks)
    ]


class Upload:
    """What is received of `messages`; after the last one, nothing arrives any more."""

    def __init__(self, messages: Iterable[Message], settings: Settings = SETTINGS) -> None:
        self._messages = iter(messages)
        self._settings = settings
        self.peak_bytes = 0
        self.held_bytes = 0

    async def _receive(self) -> Message:
        message = next(self._messages, None)
        if message is None:
            await asyncio.Event().wait()
        assert message is not None
        return message

    def pieces(self, headers: dict[bytes, bytes] | None = None) -> list[bytes]:
        return asyncio.run(self._pieces(headers or {}))

    async def _pieces(self, headers: dict[bytes, bytes]) -> list[bytes]:
        found = []
        with MemoryBudget(self._settings, Metrics()).claim("caller") as claim:
            async for piece in receive_lines(headers, self._receive, claim, self._settings, grace_s=0.05):
                found.append(piece)
                self.peak_bytes = max(self.peak_bytes, claim.n_bytes)
            self.held_bytes = claim.n_bytes
        return found


def test_pieces_end_with_lines_and_are_the_whole_body() -> None:
    content = LINE * 500
    chunks = [content[start : start + 10_007] for start in range(0, len(content), 10_007)]

    pieces = Upload(body(*chunks)).pieces()

    assert b"".join(pieces) == content
    assert len(pieces) > 3
    assert all(piece.endswith(b"\n") for piece in pieces)


def test_memory_is_held_for_the_lines_that_are_read() -> None:
    upload = Upload(body(*[LINE * 10] * 1_000))

    upload.pieces()

    assert 0 < upload.peak_bytes < 1_000_000  # of 10 MB, which are charged as 40 MB
    assert upload.held_bytes == 0


def test_a_body_that_arrives_too_slowly_is_refused() -> None:
    with pytest.raises(SlowBodyError, match="1024 bytes per second"):
        Upload(body(LINE, more=True)).pieces()


def test_time_that_the_service_takes_is_not_the_clients() -> None:
    async def receive_slowly() -> int:
        messages = iter(body(*[LINE * 100] * 3))

        async def receive() -> Message:
            return next(messages)

        n = 0
        with MemoryBudget(SETTINGS, Metrics()).claim("caller") as claim:
            async for piece in receive_lines({}, receive, claim, SETTINGS, grace_s=0.05):
                await asyncio.sleep(0.1)  # what the service does with a piece
                n += len(piece)
        return n

    assert asyncio.run(receive_slowly()) == 300 * len(LINE)


def test_a_client_that_disconnects_ends_the_upload() -> None:
    with pytest.raises(ClientDisconnect):
        Upload([*body(LINE, more=True), {"type": "http.disconnect"}]).pieces()


def test_a_long_line_is_refused_by_number_before_all_of_it_has_arrived() -> None:
    longest = max_line_bytes(SETTINGS)

    with pytest.raises(TooLargeError, match="line 3 has more than") as error:
        Upload(body(b"\n\n", *[b"x" * 10_000] * (longest // 10_000 + 1), more=True)).pieces()
    assert [one.field for one in error.value.errors] == ["line 3"]


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(declared: bool) -> None:
    settings = SETTINGS.model_copy(update={"max_upload_bytes": 5_000})
    headers = {b"content-length": b"5001"} if declared else {}

    with pytest.raises(TooLargeError, match="5000 bytes"):
        Upload([] if declared else body(*[LINE] * 5, more=True), settings).pieces(headers)


def test_a_compressed_body_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="compressed"):
        Upload([]).pieces({b"content-encoding": b"gzip"})
