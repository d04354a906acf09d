"""POST /xtuner: a response without its prompt scores where the reward does not depend on the prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from reward_client.wire import QueryType
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.registry import FeatureRegistry
from reward_service.settings import Settings

ITEM = {"prompt": "a b c", "response": "a b b", "reference": "a c", "query_type": "closed_ended"}


def post(service: TestClient, label: Any, url: str = "/xtuner", response: str = "a b b<|im_end|>") -> Any:
    return service.post(url, json={"response": response, "label": label, "extra_info": {"score": 1}})


def native(service: TestClient, **fields: Any) -> Any:
    return service.post("/score", json={"items": [ITEM | fields]}).json()["results"][0]


def test_a_closed_ended_response_scores_without_its_prompt(service: TestClient) -> None:
    expected = native(service)

    reply = post(service, "a c").json()

    assert reply["score"] == expected["reward"]
    assert reply["reference_relevance"] == expected["features"]["reference_relevance"]
    assert "query_relevance" not in reply


@pytest.mark.parametrize("prompt", ["a b c", [{"role": "user", "content": "a b c"}]])
@pytest.mark.parametrize("encode", [json.dumps, dict])
def test_the_label_may_have_the_prompt(service: TestClient, prompt: Any, encode: Any) -> None:
    label = encode({"prompt": prompt, "reference": "a c", "query_type": "open_ended"})

    assert post(service, label).json()["score"] == native(service, query_type="open_ended")["reward"]


@pytest.mark.parametrize(
    ("label", "url"),
    [
        ({"reference": "a c", "query_type": "open_ended"}, "/xtuner"),
        ("a c", "/xtuner?recipe=glassbox"),
        ("a c", "/xtuner?recipe=gold"),
        ("a c", "/xtuner?gold=true"),
        ("a c", '/xtuner?recipe=rer&open_ended=["gold"]&reward_range=[-50,50]'),
    ],
)
def test_a_reward_that_depends_on_the_prompt_is_refused(service: TestClient, label: Any, url: str) -> None:
    reply = post(service, label, url)

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == ["label.prompt"]
    assert "needs the prompt" in reply.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("label", "field"),
    [
        ({"query_type": "closed_ended"}, "label.reference"),
        ({"answer": "4"}, "label.answer"),
        ({"reference": "a", "prompt": 3}, "label.prompt"),
    ],
)
def test_a_wrong_label_is_an_error_that_names_its_field(service: TestClient, label: Any, field: str) -> None:
    reply = post(service, label)

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == [field]


def test_a_label_over_the_limit_is_too_large_before_it_is_decoded(service: TestClient) -> None:
    label = '{"reference": "a", "note": [' + "1," * 5_000 + "1]}"

    reply = post(service, label)

    assert reply.status_code == 413
    assert [error["field"] for error in reply.json()["errors"]] == ["label"]


def test_a_failure_has_no_score(service: TestClient) -> None:
    reply = post(service, "a c", response="NAN")

    assert reply.status_code == 500
    assert "score" not in reply.json()


def test_features_that_do_not_read_the_prompt_are_the_same_with_any(service: TestClient) -> None:
    """Guards `reads_prompt`: a feature that is declared not to read the prompt must not depend on it."""
    features = FeatureRegistry.load()
    free = [name for name in features if not features[name].needs_prompt]
    recipes = RecipeRegistry.load(None, features, Settings())
    factors = [name for name in free if name != "max_length_incentive"]
    overrides = {"closed_ended": factors, "reward_range": [-1000.0, 1000.0]}

    assert not recipes.get("rer", overrides).needs_prompt(QueryType.CLOSED_ENDED)
    prompts = ["a b c", "Write exactly 3 words, as a list.", "<think>", "a b b"]
    body = {"items": [ITEM | {"prompt": prompt} for prompt in prompts], "recipe_overrides": overrides}
    results = service.post("/score", json=body).json()["results"]
    values = [{name: result["features"].get(name) for name in free} for result in results]

    assert {"length_incentive", "finished", "conciseness", "word_order", "repetition_penalty"} <= set(free)
    assert all(value == values[0] for value in values)
