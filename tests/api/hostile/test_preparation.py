"""Preparation is work like any other: others are served meanwhile, and the service can stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.api.hostile.service import HostileTarget, started
from tests.api.hostile.witness import Witness, statuses
from tests.live import item, posted, until

pytestmark = pytest.mark.slow

LONG = "ab " * 66_000


def stop_strings() -> Any:
    """260 kB of stop strings, which all have to be searched in a long text."""
    return {
        "items": [item(LONG)],
        "recipe_overrides": {"stop_strings": [f"stop string {n}" for n in range(10_000)]},
    }


def items(n: int, chars: int) -> Callable[[], Any]:
    """`n` items with `chars` characters."""
    return lambda: {"items": [item(f"{i} " + "some words " * (chars // 11)) for i in range(n)]}


def conversations() -> Any:
    """Few items, each a conversation of many messages."""
    return {"items": [item(prompt=[{"role": "user", "content": "some words " * 90}] * 190) for _ in range(20)]}


WORK: dict[str, tuple[Callable[[], Any], int]] = {
    "many stop strings in a long text": (stop_strings, 7),
    "32 requests of 256 items": (items(256, 7_200), 32),
    "8 requests of 4,096 items": (items(4_096, 500), 8),
    "one-word texts of the longest length": (lambda: {"items": [item("w" * 199_000) for _ in range(20)]}, 8),
    "conversations": (conversations, 16),
    "repeated words": (lambda: {"items": [item("a a b " * 30_000) for _ in range(8)]}, 8),
}


@pytest.mark.parametrize("name", WORK)
def test_others_are_served_while_one_caller_has_much_prepared(target: HostileTarget, name: str) -> None:
    make, workers = WORK[name]
    body = json.dumps(make())

    with Witness(target) as witness:
        witness.repeat(lambda: witness.post("/score", body), workers=workers)

    assert statuses(witness.replies) <= {200, 413, 422, 429, 503}


def test_openrlhf_bodies_of_one_caller_leave_room_for_others(target: HostileTarget) -> None:
    body = json.dumps({"query": ["q? " + LONG] * 40, "prompts": ["q? "] * 40, "labels": [None] * 40})

    with Witness(target) as witness:
        witness.repeat(lambda: witness.post("/get_reward", body), workers=8)

    assert statuses(witness.replies) <= {200, 413, 422, 429, 503, 504}


@pytest.mark.parametrize("name", ["many stop strings in a long text", "8 requests of 4,096 items"])
def test_a_service_that_prepares_stops_within_its_bound(tmp_path: Path, control_url: str, name: str) -> None:
    make, workers = WORK[name]
    body = json.dumps(make()).encode()
    with started(tmp_path, control_url) as target:
        headers = {"content-type": "application/json"} | target.headers()
        with ThreadPoolExecutor(workers) as pool:
            connections = list(pool.map(lambda _: posted(target.url, "/score", body, headers), range(workers)))
        before = target.cpu_s()
        until(lambda: target.cpu_s() > before + 0.2)

        assert target.stop() <= target.max_stop_s

        for connection in connections:
            connection.close()
