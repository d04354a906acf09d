"""What refusals say of when to come back."""

from __future__ import annotations

import math

import pytest

from reward_service.errors import NoRoomError, OverloadedError


@pytest.mark.parametrize(("estimate_s", "told_s"), [(0.0, 1.0), (7.5, 7.5), (math.inf, 30.0)])
def test_nobody_is_sent_away_for_no_time_or_for_long(estimate_s: float, told_s: float) -> None:
    assert OverloadedError("full", estimate_s).retry_after_s == told_s
    assert NoRoomError("full", estimate_s).retry_after_s == told_s
