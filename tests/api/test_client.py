"""The client against the real service: its limits, and its account of what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_client import Item, QueryType, RetryPolicy, RewardClient, RewardRejectedError


@pytest.fixture
def client(service: TestClient) -> Iterator[RewardClient]:
    """The client, talking to the service in process: at most 100 items and 1 MB a request."""

    def hand_over(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "application/json"}
        answer = service.request(request.method, request.url.path, content=request.content, headers=headers)
        return httpx.Response(answer.status_code, content=answer.content)

    never = RetryPolicy(budget_s=0.0)
    with RewardClient("http://in-process", retry=never, transport=httpx.MockTransport(hand_over)) as c:
        yield c


def items(n: int) -> list[Item]:
    return [Item(prompt="a b", response="b c " * (index % 7 + 1), id=f"i{index}") for index in range(n)]


@pytest.mark.parametrize("n", [100, 101, 250, 600])
def test_a_batch_of_any_size_has_the_rewards_of_its_items(client: RewardClient, n: int) -> None:
    seven = client.score(items(7), recipe="li").rewards

    reply = client.score(items(n), recipe="li")

    assert reply.rewards == [seven[index % 7] for index in range(n)]
    assert [result.id for result in reply.results] == [f"i{index}" for index in range(n)]


def test_a_batch_with_a_body_beyond_the_limit_is_split_by_bytes(client: RewardClient) -> None:
    """90 items are few enough; 21 kB each, three bytes a character, are too much."""
    wide = [Item(prompt="a", response="日本 " * 3000, id=str(index)) for index in range(90)]

    reply = client.score(wide, recipe="li")

    assert [result.id for result in reply.results] == [item.id for item in wide]


def test_the_bad_item_of_a_large_batch_has_the_callers_index(client: RewardClient) -> None:
    batch = items(250)
    batch[230] = Item(prompt="a", response="b", query_type=QueryType.CLOSED_ENDED, id="no reference")

    with pytest.raises(RewardRejectedError, match=r"items\.230\.reference") as caught:
        client.score(batch, recipe="rer")

    (error,) = caught.value.errors
    assert (error.item, error.id) == (230, "no reference")
    assert [item for item, _ in caught.value.unscored] == list(range(200, 250))
    assert caught.value.partial is not None
    assert len(caught.value.partial.rewards) == 200
