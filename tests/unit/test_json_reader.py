"""Large bodies are read in pieces: where a piece ends makes no difference."""

from __future__ import annotations

import pytest

from reward_client.wire import ScoreRequest
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
