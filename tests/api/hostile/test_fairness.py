"""One caller that wants everything gets what others leave, for every resource; with API keys and without them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.api.hostile.service import HONEST, HostileTarget
from tests.api.hostile.witness import Witness, statuses
from tests.live import item, posted

pytestmark = pytest.mark.slow


@pytest.fixture(params=["target", "open_target"])
def any_target(request: pytest.FixtureRequest) -> HostileTarget:
    """Callers differ by their API key, or by their address."""
    target: HostileTarget = request.getfixturevalue(request.param)
    return target


def fresh(number: int, n_items: int, words: int) -> Any:
    """Items that the service has not seen."""
    return {"items": [item(f"{number} {n} " + "word " * words) for n in range(n_items)]}


def test_the_model_queue_is_shared(any_target: HostileTarget) -> None:
    numbers = itertools.count()

    with Witness(any_target) as witness:
        witness.repeat(lambda: witness.post("/score", fresh(next(numbers), 4_096, 20)), workers=8)

    assert statuses(witness.replies) <= {200, 429}


def test_many_small_requests_of_one_caller_do_not_fill_the_queue(target: HostileTarget) -> None:
    numbers = itertools.count()

    with Witness(target) as witness:
        witness.repeat(lambda: witness.post("/score", fresh(next(numbers), 64, 500)), workers=64)

    assert statuses(witness.replies) <= {200, 429}


def test_held_requests_of_one_caller_do_not_hold_others(target: HostileTarget) -> None:
    numbers = itertools.count()

    def post() -> None:
        rows = [f"q?{next(numbers)} " + "word " * 400 for _ in range(512)]
        body = {"query": rows, "prompts": ["q?"] * len(rows), "labels": [None] * len(rows)}
        with posted(target.url, "/get_reward", body, headers):
            witness.wait(2)

    headers = {"content-type": "application/json"} | target.headers()
    with Witness(target) as witness:
        witness.repeat(post, workers=32, seconds=4)


def test_bodies_that_are_declared_and_do_not_arrive_take_no_room(any_target: HostileTarget) -> None:
    headers = {"content-type": "application/json"} | any_target.headers()
    with Witness(any_target) as witness:
        for _ in range(16):
            witness.hold(posted(any_target.url, "/score", b"{", headers, declared=33_554_432))
        witness.wait(3)


def test_bodies_that_arrive_slowly_leave_room_for_others(target: HostileTarget) -> None:
    headers = {"content-type": "application/json"} | target.headers()
    with Witness(target) as witness:
        for _ in range(12):
            witness.hold(posted(target.url, "/score", b" " * 20_000_000, headers, declared=33_554_432))
        witness.wait(3)


def test_kept_replies_of_one_caller_do_not_evict_or_answer_those_of_others(target: HostileTarget) -> None:
    numbers = itertools.count()
    body = fresh(0, 1, 3)
    with Witness(target) as witness:

        def post() -> None:
            number = next(numbers)
            witness.post("/score", fresh(number, 256, 3), {"Idempotency-Key": f"key {number}".replace(" ", "-")})

        mine = witness.post("/score", body, {"Idempotency-Key": "shared"}, caller=HONEST)
        other = witness.post("/score", fresh(1, 2, 3), {"Idempotency-Key": "shared"})
        witness.repeat(post, workers=8)
        again = witness.post("/score", body, {"Idempotency-Key": "shared"}, caller=HONEST)

    assert mine.status == 200
    assert other.status == 200, "the key of another caller is not in use"
    assert again.body == mine.body
