"""Items of a call: `Item` or a dict; anything else is an error with item and field before a request is sent."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from reward_client import AsyncRewardClient, Item, RewardClient
from reward_client.score_call import score_request
from tests.unit.test_client import REPLY


def sent(items: Any) -> list[dict[str, Any]]:
    """The items that a client sends for `items`."""
    return score_request(items).model_dump(exclude_none=True)["items"]  # type: ignore[no-any-return]


def test_a_dict_is_the_item_with_its_fields() -> None:
    given = {"prompt": "p", "response": "r", "reference": 4, "query_type": "CONSTRAINED", "id": 7}

    assert sent([given]) == sent([Item.model_validate(given)])


@pytest.mark.parametrize(
    "given",
    [
        (one for one in [{"prompt": "p", "response": "r"}]),
        ({"prompt": "p", "response": "r"},),
        [MappingProxyType({"prompt": "p", "response": "r"})],
        [Item(prompt="p", response="r")],
    ],
    ids=["generator", "tuple", "mapping", "item"],
)
def test_items_may_be_any_iterable_of_items_and_mappings(given: Any) -> None:
    assert sent(given) == [{"prompt": "p", "response": "r"}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": "p", "response": "r"}, r"must be a list of items, not a value of type dict; .* \[item\]"),
        (Item(prompt="p", response="r"), "must be a list of items, not a value of type Item"),
        ("text", "must be a list of items, not a value of type str"),
        (None, "must be a list of items, not None"),
        (7, "must be a list of items, not a value of type int"),
        ([Item(prompt="p", response="r"), "text"], "item 1 must be an Item or a dict .* not a value of type str"),
        ([("p", "r")], "item 0 must be an Item or a dict with prompt and response, not a value of type tuple"),
        ([None], "item 0 must be .* not None"),
    ],
)
def test_what_is_no_item_is_a_type_error(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        score_request(given)


def test_a_data_frame_is_an_error_that_names_the_function_for_it() -> None:
    import pandas

    with pytest.raises(TypeError, match=r"reward_client\.tables scores tables"):
        score_request(pandas.DataFrame({"prompt": ["p"], "response": ["r"]}))


def test_every_wrong_item_is_named_with_its_field() -> None:
    items = [
        {"prompt": "p", "response": "r"},
        {"prompt": "p", "respons": "r"},
        {"prompt": "p"},
        {"prompt": "p", "response": 3},
        {"prompt": "p", "response": "r", "weight": 1},
        {"prompt": "p", "response": "r", "query_type": "closed"},
        {"prompt": "p", "response": "r", "reference": float("nan")},
        {1: "p"},
    ]

    with pytest.raises(ValueError, match="item 1") as caught:
        score_request(items)  # type: ignore[arg-type]

    assert [line.partition(": Input")[0] for line in str(caught.value).splitlines()] == [
        "item 1: respons: unknown field; did you mean response?",
        "item 2: response: Field required",
        "item 3: response",
        "item 4: weight: unknown field; the fields are prompt, response, reference, query_type, id",
        "item 5: query_type",
        "item 6: reference: must be text or a finite number, not nan",
        "item 7: 1: unknown field; the fields are prompt, response, reference, query_type, id",
    ]


def test_the_first_twenty_wrong_items_are_listed_and_the_others_counted() -> None:
    with pytest.raises(ValueError, match="and 80 more") as caught:
        score_request([{"prompt": "p"}] * 100)

    assert len(str(caught.value).splitlines()) == 21


class Counted:
    """A transport that counts what it is sent."""

    def __init__(self) -> None:
        self.n_requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.n_requests += 1
        return httpx.Response(200, json=REPLY)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_nothing_is_sent_when_an_item_is_wrong(counted: Counted) -> None:
    items = [{"prompt": "p", "response": "r"}] * 300 + [{"prompt": "p", "response": None}]

    with (
        RewardClient("http://test", transport=httpx.MockTransport(counted)) as client,
        pytest.raises(ValueError, match="item 300: response"),
    ):
        client.score(items)
    assert counted.n_requests == 0


def test_the_asynchronous_client_takes_dicts_too(counted: Counted) -> None:
    async def ask() -> list[float | None]:
        async with AsyncRewardClient("http://test", transport=httpx.MockTransport(counted)) as client:
            return (await client.score([{"prompt": "p", "response": "r"}])).rewards

    assert asyncio.run(ask()) == [0.5]
