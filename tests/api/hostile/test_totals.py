"""Every input has a bound on the whole, errors are few, and memory stays within its budget."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from load.hostile_requests import draw
from tests.api.hostile.service import HostileTarget
from tests.api.hostile.witness import Reply, Witness, statuses
from tests.live import item as live_item

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def witness(target: HostileTarget) -> Iterator[Witness]:
    """Measures what others see during all tests of this module, and asserts the bounds after them."""
    with Witness(target) as witness:
        yield witness


N = 200_000
"""Wrong entries: megabytes of them."""


def item(**fields: Any) -> dict[str, Any]:
    return live_item() | fields


def score(**fields: object) -> str:
    return json.dumps({"items": [item()]} | fields)


def repeated(pair: str, n: int) -> str:
    return ",".join([pair] * n)


TOO_MANY: dict[str, Callable[[], str]] = {
    "unknown recipe overrides": lambda: score(recipe_overrides={f"unknown_{n}": n for n in range(N)}),
    "wrong entries of one override": lambda: score(recipe_overrides={"open_ended": ["essay"] * N}),
    "wrong types in one override": lambda: score(recipe_overrides={"stop_strings": [{}] * N}),
    "wrong ranges of features": lambda: score(recipe_overrides={"feature_ranges": {f"f{n}": 0 for n in range(N)}}),
    "unknown keys of the body": lambda: score(**{f"unknown_{n}": n for n in range(N)}),
    "unknown keys of an item": lambda: score(items=[item(**{f"unknown_{n}": n for n in range(N)})]),
    "long keys": lambda: score(**{f"{n}" + "k" * 10_000: n for n in range(500)}),
    "repeated keys of an item": lambda: '{"items": [{' + repeated('"prompt": "a"', N) + "}]}",
    "repeated keys, each twice": lambda: "{" + ",".join(f'"k{n}": 0, "k{n}": 0' for n in range(N // 2)) + "}",
    "repeated keys of overrides": lambda: '{"items": [], "recipe_overrides": {' + repeated('"a": 1', N) + "}}",
}
"""More keys or values than a limit allows."""
WRONG: dict[str, Callable[[], str]] = {
    "unknown keys in many items": lambda: score(items=[item(**{f"u{n}": 0 for n in range(50)})] * 4_000),
    "wrong types in many items": lambda: score(items=[item(response=7)] * 60_000),
    "messages with a wrong role": lambda: score(items=[item(prompt=[{"role": "poet", "content": ""}] * 60_000)]),
    "repeated keys of the body": lambda: "{" + repeated('"items": []', N) + "}",
    "items that miss a reference": lambda: score(items=[item(query_type="closed_ended", id="x" * 100)] * 4_096),
    "blank prompts, reported": lambda: score(items=[item(prompt=" ", id="x" * 100)] * 4_096, on_item_error="fail"),
}


@pytest.mark.parametrize(("name", "status"), [*((n, 413) for n in TOO_MANY), *((n, 422) for n in WRONG)])
def test_an_error_reply_is_short_however_much_is_wrong(witness: Witness, name: str, status: int) -> None:
    body = (TOO_MANY | WRONG)[name]()

    replies = witness.at_once(3, lambda: witness.post("/score", body))

    assert {status} <= statuses(replies) <= {status, 429, 503}


@pytest.mark.parametrize(
    "query",
    [
        "&".join(["unknown=1"] * 6_000),
        "recipe=" + "r" * 60_000,
        "&".join(f"k{n}=" for n in range(10_000)),
        "%25" * 20_000,
    ],
)
def test_an_error_about_a_long_query_is_short(witness: Witness, query: str) -> None:
    body = {"query": ["q?a"], "prompts": ["q?"], "labels": [None]}

    replies = witness.at_once(3, lambda: witness.post(f"/get_reward?{query}", body))

    assert statuses(replies) <= {400, 413, 414, 422, 431}


def _messages(n: int, chars: int) -> str:
    return score(items=[item(prompt=[{"role": "user", "content": "word " * (chars // 5)}] * n)])


LARGE: dict[str, Callable[[], str]] = {
    "40 messages of 200,000 characters": lambda: _messages(40, 199_000),
    "2,000 messages of 4,000 characters": lambda: _messages(2_000, 4_000),
    "60,000 short messages": lambda: _messages(60_000, 20),
    "100 texts of the longest length": lambda: score(items=[item(response="a b " * 49_000)] * 100),
    "an id of 30 MB": lambda: score(items=[item(id="i" * 30_000_000)]),
    "ids of 7 kB in each item": lambda: score(items=[item(id=f"{n}" + "i" * 7_000) for n in range(4_000)]),
    "a run of 30 MB": lambda: score(run="r" * 30_000_000),
    "a recipe of 30 MB": lambda: score(recipe="r" * 30_000_000),
    "a query type of 30 MB": lambda: score(items=[item(query_type="q" * 30_000_000)]),
    "a key of 30 MB": lambda: score(**{"k" * 30_000_000: 1}),
    "a description of 30 MB": lambda: score(recipe_overrides={"description": "d" * 30_000_000}),
    "one word of 30 MB": lambda: score(items=[item(response="w" * 30_000_000)]),
    "spaces": lambda: " " * 30_000_000,
    "numbers": lambda: score(step=0)[:-1] + ', "unknown": [' + repeated("0", 10_000_000) + "]}",
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_as_a_whole_stays_within_the_memory_budget(witness: Witness, name: str) -> None:
    body = LARGE[name]()

    replies = witness.at_once(3, lambda: witness.post("/score", body))

    assert statuses(replies) <= {200, 413, 422, 429, 503}


def test_random_hostile_requests_leave_others_alone(witness: Witness) -> None:
    """The generator of the load test, with a fixed seed."""
    rng = random.Random(15)
    requests = iter([draw(rng) for _ in range(60)])

    def post() -> Reply:
        request = next(requests)
        return witness.post(request.path, request.body, request.headers, method=request.method)

    assert not statuses(witness.at_once(60, post, workers=6)) & {0, 500}
