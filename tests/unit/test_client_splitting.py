"""Batches beyond the service's limits: sent in parts, joined to one reply, with exact lists of unscored items."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_client import (
    AsyncRewardClient,
    Item,
    RetryPolicy,
    RewardClient,
    RewardError,
    RewardRejectedError,
    ScoreReply,
)
from reward_client.operations import SMALL_ITEMS, split
from reward_client.wire import MAX_LIST, LimitsInfo

NEVER = RetryPolicy(budget_s=0.0)


@dataclass
class Service:
    """A service with limits; the reward of an item is the length of its response."""

    max_items: int = 10**9
    max_body_bytes: int = 10**9
    max_text_chars: int = 10**9
    max_found: int = 10**9
    """Items whose references of a data set fit one request: GET /info has no such limit."""
    hash_of: Callable[[int], str] = lambda _: "x"
    posts: list[list[str]] = field(default_factory=list)
    """Responses of each batch that was scored."""
    paths: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        if request.url.path == "/info":
            return httpx.Response(200, json=self.info())
        items = json.loads(request.content)["items"]
        if len(items) > self.max_items or len(request.content) > self.max_body_bytes:
            return rejection(413, "too large")
        if long := [index for index, item in enumerate(items) if len(item["response"]) > self.max_text_chars]:
            return rejection(413, "too long", long)
        if len(items) > self.max_found:
            return rejection(413, "too many references", [self.max_found])
        bad = [index for index, item in enumerate(items) if "BAD" in item["response"]]
        if bad:
            return rejection(422, "bad", bad)
        if any("BOOM" in item["response"] for item in items):
            return rejection(500, "exploded")
        self.posts.append([item["response"] for item in items])
        results = [{"reward": float(len(item["response"])), "id": item.get("id")} for item in items]
        return httpx.Response(200, json=self.reply(results))

    def reply(self, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "rewards": [result["reward"] for result in results],
            "results": results,
            "recipe": {"name": "rer", "hash": self.hash_of(len(self.posts))},
            "models": {"relevance": "m", "gold": None},
            "timing_ms": {"queue": 1.0, "encode": 2.0, "gold": None, "total": 3.0},
            "notices": ["a demo"],
        }

    def info(self) -> dict[str, Any]:
        limits = {
            "max_body_bytes": self.max_body_bytes, "max_items": self.max_items,
            "max_text_chars": self.max_text_chars,
        }  # fmt: skip
        return {
            "version": "0", "default_recipe": "rer", "recipes": [], "relevance": None, "gold": None,
            "limits": limits, "versions": {},
        }  # fmt: skip


def rejection(status: int, detail: str, bad: list[int] | None = None) -> httpx.Response:
    errors = [{"item": index, "field": f"items.{index}.response", "message": "is bad"} for index in bad or []]
    return httpx.Response(status, json={"title": "t", "status": status, "detail": detail, "errors": errors})


def score(service: Service, items: list[Item]) -> ScoreReply:
    with RewardClient("http://test", retry=NEVER, transport=httpx.MockTransport(service)) as client:
        return client.score(items)


def score_async(service: Service, items: list[Item]) -> ScoreReply:
    async def ask() -> ScoreReply:
        transport = httpx.MockTransport(service)
        async with AsyncRewardClient("http://test", retry=NEVER, transport=transport) as client:
            return await client.score(items)

    return asyncio.run(ask())


Ask = Callable[[Service, list[Item]], ScoreReply]
BOTH = pytest.mark.parametrize("ask", [score, score_async])


def batch(*lengths: int) -> list[Item]:
    return [Item(prompt="p", response="r" * n, id=f"i{index}") for index, n in enumerate(lengths)]


LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=40)


@pytest.mark.slow
@given(lengths=LENGTHS, max_items=st.integers(1, 12), max_body_bytes=st.integers(170, 800))
def test_any_split_gives_the_rewards_of_one_request_in_the_same_order(
    lengths: list[int], max_items: int, max_body_bytes: int
) -> None:
    items = batch(*lengths)
    small = Service(max_items=max_items, max_body_bytes=max_body_bytes)

    whole, parts = score(Service(), items), score(small, items)

    assert (parts.rewards, parts.results) == (whole.rewards, whole.results)
    assert (parts.recipe, parts.models, parts.notices) == (whole.recipe, whole.models, whole.notices)
    assert [response for post in small.posts for response in post] == [item.response for item in items]


@given(
    lengths=LENGTHS, bad=st.integers(0, 39), max_items=st.integers(1, 12), word=st.sampled_from(["BAD", "BOOM"])
)
def test_when_a_part_fails_its_items_and_all_later_ones_are_unscored(
    lengths: list[int], bad: int, max_items: int, word: str
) -> None:
    items = batch(*lengths)
    bad %= len(items)
    items[bad] = items[bad].model_copy(update={"response": word})

    with pytest.raises(RewardError) as caught:
        score(Service(max_items=max_items), items)

    first = bad // max_items * max_items if len(items) > max_items else 0
    assert [index for index, _ in caught.value.unscored] == list(range(first, len(items)))
    assert [name for _, name in caught.value.unscored] == [item.id for item in items[first:]]
    scored = caught.value.partial.rewards if caught.value.partial else []
    assert scored == [float(len(item.response)) for item in items[:first]]


@given(
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=50),
    envelope=st.integers(0, 50),
    max_items=st.integers(1, 60),
    max_bytes=st.integers(1, 500),
    values=st.integers(1, 400),
)
def test_a_split_has_every_item_once_and_only_a_single_item_may_exceed_a_limit(
    sizes: list[int], envelope: int, max_items: int, max_bytes: int, values: int
) -> None:
    limits = LimitsInfo(max_body_bytes=max_bytes, max_items=max_items, max_text_chars=1, max_values=1000)

    parts = split(sizes, [values] * len(sizes), envelope, limits)

    assert [index for part in parts for index in part] == list(range(len(sizes)))
    for part in parts:
        assert 1 <= len(part) <= max_items
        assert len(part) == 1 or values * len(part) <= 1000
        assert len(part) == 1 or envelope + sum(sizes[index] + 1 for index in part) <= max_bytes


@BOTH
def test_a_rejection_has_item_indices_in_the_whole_batch(ask: Ask) -> None:
    items = batch(1, 2, 3, 4, 5)
    items[4] = Item(prompt="p", response="BAD", id="the bad one")

    with pytest.raises(RewardRejectedError, match=r"items\.4\.response: is bad.*2 items .*from item 3") as caught:
        ask(Service(max_items=3), items)

    assert caught.value.errors[0].item == 4
    assert caught.value.unscored == ((3, "i3"), (4, "the bad one"))
    assert caught.value.partial is not None
    assert caught.value.partial.rewards == [1.0, 2.0, 3.0]


@BOTH
def test_a_small_batch_is_one_request_and_the_limits_are_read_only_once(ask: Ask) -> None:
    service = Service()
    ask(service, batch(1, 2, 3))
    assert service.paths == ["/score"]

    large = Service(max_items=100)
    with RewardClient("http://test", transport=httpx.MockTransport(large)) as client:
        client.score(batch(*[1] * (SMALL_ITEMS + 1)))
        client.score(batch(*[1] * (SMALL_ITEMS + 1)))
    assert large.paths == ["/info", *["/score"] * 6]


@pytest.mark.slow
def test_a_batch_may_exceed_the_longest_list_of_a_request() -> None:
    items = [Item(prompt="p", response="r")] * (MAX_LIST + 1)

    reply = score(Service(max_items=MAX_LIST), items)

    assert reply.rewards == [1.0] * (MAX_LIST + 1)


@BOTH
def test_an_item_that_is_too_large_alone_gets_the_services_rejection(ask: Ask) -> None:
    with pytest.raises(RewardRejectedError, match="413 t: too large"):
        ask(Service(max_body_bytes=300), batch(10_000))


@BOTH
def test_a_batch_over_a_limit_that_only_the_service_can_count_is_halved(ask: Ask) -> None:
    """The references that the items find in a data set: the rejection names an item that is right by itself."""
    items = batch(*range(11))
    service = Service(max_found=3)

    reply = ask(service, items)

    assert reply.rewards == [float(n) for n in range(11)]
    assert [response for post in service.posts for response in post] == [item.response for item in items]


@BOTH
def test_a_batch_with_an_item_that_is_too_long_alone_is_not_halved(ask: Ask) -> None:
    service = Service(max_text_chars=5)

    with pytest.raises(RewardRejectedError, match="too long") as caught:
        ask(service, batch(1, 2, 6, 3))

    assert list(caught.value.errors_by_item) == [2]
    assert service.paths == ["/score", "/info"]


@BOTH
def test_the_timings_of_the_parts_are_summed(ask: Ask) -> None:
    reply = ask(Service(max_items=2), batch(1, 2, 3))

    timing = reply.timing_ms
    assert (timing.queue, timing.encode, timing.gold, timing.total) == (2.0, 4.0, None, 6.0)


@BOTH
def test_two_rewards_in_one_batch_are_an_error(ask: Ask) -> None:
    """The service was restarted with another recipe between two parts."""
    service = Service(max_items=2, hash_of=lambda n_posts: "old" if n_posts < 2 else "new")

    with pytest.raises(RewardError, match="changed recipe or models") as caught:
        ask(service, batch(1, 2, 3))

    assert caught.value.unscored == ((2, "i2"),)
