"""`explain: true`: each reward comes with its exact parts, and with the ranges of the response that were read."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_client import Item, RewardClient, RewardError
from reward_client.wire import WIRE_VERSION_HEADER
from tests.api.test_score import item, post
from tests.unit.test_command_line import client  # noqa: F401 (a fixture)


def explained(service: TestClient, *items: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = post(service, *items, explain=True, **fields)["results"]
    return results


def assert_sums(result: dict[str, Any]) -> None:
    """The parts and the baseline's product sum to the reward, and the factors multiply to it."""
    attribution = result["attribution"]
    assert attribution["baseline_reward"] + math.fsum(attribution["parts"].values()) == pytest.approx(
        result["reward"], abs=1e-9
    )
    assert math.prod(attribution["factors"].values()) == pytest.approx(result["reward"], abs=1e-9)
    assert math.prod(attribution["baseline"].values()) == pytest.approx(attribution["baseline_reward"], abs=1e-9)
    assert attribution["parts"].keys() == attribution["factors"].keys() == attribution["baseline"].keys()


def test_without_explain_there_is_no_attribution(service: TestClient) -> None:
    assert post(service, item())["results"][0]["attribution"] is None


def test_every_packaged_recipe_has_parts_that_sum_to_the_reward(service: TestClient) -> None:
    items = [
        item(response="a b c d. a b c d. a b"),
        item(response="c", reference="a c", query_type="closed_ended"),
        item(response="zzz"),
        item(response=""),
    ]

    for recipe in service.get("/info").json()["recipes"]:
        for result in explained(service, *items, recipe=recipe["name"]):
            assert_sums(result)


def test_explain_does_not_change_the_reward(service: TestClient) -> None:
    assert (
        post(service, item(), item(response="b"), explain=True)["rewards"]
        == post(service, item(), item(response="b"))["rewards"]
    )


def test_a_part_belongs_to_its_factor(service: TestClient) -> None:
    [result] = explained(service, item(response="a b c"), recipe="li-rp")

    assert result["attribution"]["factors"] == {"length_incentive": 0.03, "repetition_penalty": 1.0}
    assert result["attribution"]["parts"] == pytest.approx({"length_incentive": -0.97, "repetition_penalty": 0.0})


def test_a_constant_is_its_own_baseline(service: TestClient) -> None:
    [result] = explained(service, item(query_type="closed_ended", reference="a b"), recipe="rer")

    assert result["attribution"]["baseline_reward"] == pytest.approx(5.12)
    assert result["attribution"]["parts"]["max_length_incentive"] == 0.0


@pytest.mark.parametrize(
    "fields", [{}, {"query_type": "closed_ended", "reference": "x"}], ids=["open-ended", "closed-ended"]
)
def test_an_empty_response_loses_the_whole_baseline_reward_for_being_empty(
    service: TestClient, fields: dict[str, str]
) -> None:
    [result] = explained(service, item(response=" \n", **fields), recipe="rer")

    attribution = result["attribution"]
    assert result["reward"] == 0.0
    assert attribution["parts"]["empty"] == -attribution["baseline_reward"]
    assert_sums(result)


def test_an_item_with_an_error_has_no_attribution(service: TestClient) -> None:
    good, bad = explained(service, item(), item(response="NAN"), recipe="rer", on_item_error="report")

    assert bad["error"] is not None
    assert bad["attribution"] is None
    assert_sums(good)


def test_two_factors_of_the_same_feature_have_one_part(service: TestClient) -> None:
    overrides = {"open_ended": ["length_incentive", "length_incentive", "repetition_penalty"]}
    [result] = explained(service, item(response="a b c"), recipe="li-rp", recipe_overrides=overrides)

    assert result["attribution"]["factors"]["length_incentive"] == pytest.approx(0.03**2)
    assert_sums(result)


def test_transforms_and_otherwise_are_in_the_factors(service: TestClient) -> None:
    overrides = {
        "open_ended": [
            {"feature": "length_incentive", "saturate": 0.02},
            {"feature": "repetition_penalty", "power": 8},
        ]
    }
    [result] = explained(service, item(response="a b a b a b"), recipe="li-rp", recipe_overrides=overrides)

    assert result["attribution"]["factors"] == pytest.approx(
        {"length_incentive": 1.0, "repetition_penalty": 0.5**8}
    )
    assert_sums(result)


def test_a_client_of_release_0_1_gets_no_new_field(service: TestClient) -> None:
    body = {"items": [item()]}
    reply = service.post("/score", json=body, headers={WIRE_VERSION_HEADER: "1"}).json()

    assert "attribution" not in reply["results"][0]


def test_the_python_client_returns_the_attribution(client: RewardClient) -> None:  # noqa: F811
    [result] = client.score([Item(prompt="a b", response="a b")], explain=True).results

    assert result.attribution is not None
    assert result.attribution.baseline_reward + sum(result.attribution.parts.values()) == pytest.approx(
        result.reward
    )


def test_a_request_has_only_the_fields_that_differ_from_the_defaults() -> None:
    """So that a service of an older release, which does not know a new field, accepts it."""
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(500, json={})

    with (
        RewardClient("http://reward", transport=httpx.MockTransport(answer)) as reward,
        pytest.raises(RewardError),
    ):
        reward.score([Item(prompt="a", response="b")], recipe_overrides={"relevance_floor": None})

    assert bodies == [{"items": [{"prompt": "a", "response": "b"}], "recipe_overrides": {"relevance_floor": None}}]


def test_the_ranges_of_a_request_are_bounded(service: TestClient) -> None:
    """Otherwise a request could make the service hold a multiple of what its body is charged for."""
    looped = "".join(f"a b c {chr(0x4E00 + n)} " for n in range(1_200))

    [alone] = explained(service, item(response=looped), recipe="li-rp")
    many = explained(service, *[item(response=looped[:4_000])] * 100, recipe="li-rp")

    assert len(alone["attribution"]["repeated"]) == 1_000
    assert {len(result["attribution"]["repeated"]) for result in many} == {163}


def test_the_example_of_the_api_description_works(service: TestClient) -> None:
    schemas = service.get("/openapi.json").json()["components"]["schemas"]
    reply = service.post("/score", json=schemas["ScoreRequest"]["example"])

    assert_sums(reply.json()["results"][0])
