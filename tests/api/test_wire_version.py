"""The wire format across releases: 0.1's client with today's service, and today's client with other services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from reward_client import Item, RewardClient
from reward_client.wire import WIRE_VERSION, WIRE_VERSION_HEADER, Info, Problem, ScoreReply, ScoreRequest
from tests.fixtures import wire_0_1

RECIPES_0_1 = Path(__file__).parents[1] / "fixtures/recipes_0_1.json"
"""The recipes in `GET /info` of release 0.1."""

RELEASE_0_1 = {"user-agent": "python-httpx/0.28.1", "content-type": "application/json"}
"""What 0.1's client sends with every request; with a POST also an Idempotency-Key."""

ITEMS = [
    {"prompt": "a b c", "response": "a b c d", "id": "1"},
    {"prompt": "a b", "response": "b", "reference": "b", "query_type": "closed_ended"},
    {"prompt": "a b", "response": ""},
]


def posted_by_0_1(service: TestClient, body: dict[str, Any], key: str = "k") -> httpx.Response:
    request = wire_0_1.ScoreRequest.model_validate(body)
    headers = RELEASE_0_1 | {"idempotency-key": key}
    reply: httpx.Response = service.post(
        "/score", content=request.model_dump_json(exclude_none=True), headers=headers
    )
    return reply


@pytest.mark.parametrize("recipe", ["rer", "li", "rer-reference"])
def test_the_client_of_0_1_reads_todays_rewards(service: TestClient, recipe: str) -> None:
    reply = posted_by_0_1(service, {"items": ITEMS, "recipe": recipe, "gold": True}, key=recipe)

    read = wire_0_1.ScoreReply.model_validate_json(reply.content)
    assert len(read.rewards) == len(ITEMS)
    assert read.results[0].features.length_incentive == 0.04


def test_the_client_of_0_1_reads_todays_info_with_the_parameters_of_0_1(service: TestClient) -> None:
    info = wire_0_1.Info.model_validate_json(service.get("/info", headers=RELEASE_0_1).content)
    renamed = {"qr": "qr-reference", "li-rp-qr": "li-rp-qr-reference"}  # the old names are cosine variants now
    recipes = json.loads(RECIPES_0_1.read_text(encoding="utf-8"))
    old = {renamed.get(recipe["name"], recipe["name"]): recipe["parameters"] for recipe in recipes}

    assert {recipe.name: recipe.parameters for recipe in info.recipes if recipe.name in old} == old


@pytest.mark.parametrize(
    "body",
    [
        {"items": [ITEMS[0], {"prompt": "a", "response": "b", "reference": "c"}]},
        {"items": [ITEMS[0]], "recipe": "no-such-recipe"},
        {"items": [{"prompt": "a", "response": "x" * 10_001}]},
    ],
    ids=["an invalid item", "an unknown recipe", "a long text"],
)
def test_the_client_of_0_1_reads_todays_errors(service: TestClient, body: dict[str, Any]) -> None:
    reply = posted_by_0_1(service, body)

    assert reply.status_code in (413, 422)
    assert wire_0_1.Problem.model_validate_json(reply.content).errors


def test_a_current_info_has_the_wire_version_and_the_features(service: TestClient) -> None:
    info = Info.model_validate(service.get("/info").json())

    assert info.wire_version == WIRE_VERSION
    log_keys = {feature.name: feature.log_key for feature in info.features}
    assert (
        log_keys
        | {
            "length_incentive": "length_incentive",
            "repetition_penalty": "repetition_penalty",
            "query_relevance": "relevance",
            "reference_relevance": "relevance",
            "max_length_incentive": None,
            "gold": "gold_reward",
        }
        == log_keys
    )


@pytest.mark.parametrize(
    ("headers", "has_version"),
    [
        ({WIRE_VERSION_HEADER: "1"}, False),
        ({WIRE_VERSION_HEADER: "2"}, True),
        ({WIRE_VERSION_HEADER: "999"}, True),
        ({"user-agent": "curl/8"}, True),
        ({"user-agent": "python-httpx/0.28.1"}, True),
        (RELEASE_0_1, False),
        (RELEASE_0_1 | {WIRE_VERSION_HEADER: "2"}, True),
    ],
)
def test_info_comes_in_the_version_that_the_client_asks_for(
    service: TestClient, headers: dict[str, str], has_version: bool
) -> None:
    assert ("wire_version" in service.get("/info", headers=headers).json()) is has_version


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", ""])
def test_a_wire_version_that_is_not_a_positive_integer_is_an_error(service: TestClient, value: str) -> None:
    for method, path in (("GET", "/info"), ("POST", "/score")):
        body = {"items": ITEMS} if method == "POST" else None
        reply = service.request(method, path, json=body, headers={WIRE_VERSION_HEADER: value})

        assert reply.status_code == 422
        assert [error["field"] for error in reply.json()["errors"]] == [WIRE_VERSION_HEADER]


def test_todays_client_ignores_what_a_newer_service_adds() -> None:
    """Every object of the reply has a field, a feature or a flag that this release does not know."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=with_unknown_fields(reply_of_version_1() if request.content else info()))

    with RewardClient("http://reward", transport=httpx.MockTransport(answer)) as client:
        reply = client.score([Item(prompt="a", response="b")])
        assert client.info().default_recipe == "rer"

    assert reply.rewards == [0.5]
    assert reply.results[0].features["length_incentive"] == 0.1
    assert {request.headers[WIRE_VERSION_HEADER] for request in sent} == {str(WIRE_VERSION)}


def test_todays_models_read_what_a_service_of_0_1_sends() -> None:
    old = wire_0_1.ScoreReply.model_validate(reply_of_version_1()).model_dump_json()

    assert ScoreReply.model_validate_json(old).results[0].features["query_relevance"] is None
    assert Info.model_validate_json(wire_0_1.Info.model_validate(info()).model_dump_json()).wire_version == 1


def test_an_unknown_field_of_an_error_is_ignored() -> None:
    problem = {"title": "t", "status": 422, "detail": "d", "errors": [{"field": "items", "message": "m"}]}

    assert Problem.model_validate(with_unknown_fields(problem)).errors[0].field == "items"


def test_an_unknown_field_of_a_request_is_an_error() -> None:
    with pytest.raises(ValidationError, match="recipes"):
        ScoreRequest.model_validate({"items": [{"prompt": "a", "response": "b"}], "recipes": "rer"})


def reply_of_version_1() -> dict[str, Any]:
    result = {"reward": 0.5, "query_type": "open_ended", "features": {"length_incentive": 0.1}}
    return {
        "rewards": [0.5],
        "results": [result],
        "recipe": {"name": "rer", "hash": "0"},
        "models": {"relevance": "letters", "gold": None},
        "timing_ms": {"queue": 0, "encode": 1, "gold": None, "total": 1},
    }


def info() -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "default_recipe": "rer",
        "recipes": [],
        "relevance": None,
        "gold": None,
        "limits": {"max_body_bytes": 1, "max_items": 1, "max_text_chars": 1},
        "versions": {"torch": "2"},
    }


def with_unknown_fields(value: Any) -> Any:
    """A copy of a JSON value in which every object has one more field."""
    added: dict[str, Any] = json.loads(json.dumps(value))
    stack: list[Any] = [added]
    while stack:
        this = stack.pop()
        if isinstance(this, dict):
            stack += this.values()
            this["added_later"] = "1"  # also a valid value in maps of numbers and of texts
        elif isinstance(this, list):
            stack += this
    return added
