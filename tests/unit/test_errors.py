"""`Retry-After` of errors."""

from __future__ import annotations

import math

import pytest

from reward_service.errors import NoRoomError, OverloadedError


@pytest.mark.parametrize(("estimate_s", "expected_s"), [(0.0, 1.0), (7.5, 7.5), (math.inf, 30.0)])
def test_retry_after_is_between_1_and_30_seconds(estimate_s: float, expected_s: float) -> None:
    assert OverloadedError("full", estimate_s).retry_after_s == expected_s
    assert NoRoomError("full", estimate_s).retry_after_s == expected_s
