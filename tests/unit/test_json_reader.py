"""Large bodies are read in pieces: where a piece ends makes no difference."""

from __future__ import annotations

import gc
import weakref

import pytest

from reward_client.wire import ScoreRequest
from reward_service.errors import InvalidRequestError
from reward_service.http.json_codec import parse
from reward_service.http.json_reader import PIECE_BYTES
from reward_service.settings import Settings


@pytest.mark.parametrize("number", ["1", "10", "1.0", "1e0", "1E+0", "10e-1", "100.0e-2"])
@pytest.mark.parametrize("cut", range(6))
def test_a_number_may_continue_in_the_next_piece(number: str, cut: int) -> None:
    start, end = '{"items":[{"prompt":"Why?","response":"', f'"}}],"step":{number}}}'
    before = PIECE_BYTES - len(start) - len(end.partition(number)[0]) - cut
    body = (start + "a" * before + end).encode() + b" " * PIECE_BYTES

    assert parse(ScoreRequest, body, Settings()).step == float(number)


class Body(bytearray):
    """A body that a weak reference can watch."""


@pytest.mark.parametrize(
    "last",
    [b"", b", 1", b', {"prompt": "a", "prompt": "a", "response": "b"}'],
    ids=["right", "wrong", "key twice"],
)
def test_a_body_is_free_as_soon_as_it_is_parsed_or_refused(last: bytes) -> None:
    item = b'{"prompt": "Why?", "response": "%s"}' % (b"word " * PIECE_BYTES)
    body = Body(b'{"items": [' + b", ".join([item] * 3) + last + b"]}")
    watched = weakref.ref(body)
    gc.disable()
    try:
        try:
            parse(ScoreRequest, body, Settings())
        except InvalidRequestError:
            assert last
        del body

        assert watched() is None
    finally:
        gc.enable()
