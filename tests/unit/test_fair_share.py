"""Capacity that callers share."""

from __future__ import annotations

from reward_service.batching.callers import Callers
from reward_service.fair_share import FairShare


def _filled(share: FairShare, caller: str, piece: float) -> float:
    while share.allows(caller, piece):
        share.add(caller, piece)
    return share.used(caller)


def test_one_caller_alone_gets_most_of_the_capacity_and_leaves_room_for_another() -> None:
    share = FairShare(900)
    assert 780 <= _filled(share, "greedy", 10) <= 800
    assert share.allows("newcomer", 90)


def test_what_one_caller_releases_another_can_use_until_both_have_the_same() -> None:
    share = FairShare(900)
    for _ in range(200):
        _filled(share, "first", 1)
        _filled(share, "second", 1)
        if share.used("first") > share.used("second"):
            share.add("first", -8)
        else:
            share.add("second", -8)
    assert abs(share.used("first") - share.used("second")) < 30
    assert share.total <= 900


def test_an_amount_over_the_limit_is_allowed_only_while_nothing_is_used() -> None:
    share = FairShare(10)
    assert share.allows("large", 50)
    share.add("large", 50)
    assert not share.allows("small", 1)
    share.add("large", -50)
    assert share.total == share.callers == 0


def test_many_callers_never_exceed_the_limit() -> None:
    share = FairShare(100)
    for number in range(1000):
        if share.allows(str(number), 1):
            share.add(str(number), 1)
    assert share.total <= 100


def test_what_is_expected_of_one_request_is_bounded_whatever_the_caller_sent_before() -> None:
    callers = Callers(65_536)
    for _ in range(20):
        callers.reservations.observe(callers.reservations.expect("bursty", 60), units=2, tokens=100)

    reservation = callers.reservations.expect("bursty", 32 * 1024 * 1024)

    assert reservation.items <= 65_536 / 8
    assert callers.items.allows("newcomer", reservation.items)
