"""POST /score: what a caller may rely on."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.doubles import LengthGold, LetterEncoder


def post(service: TestClient, *items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    response = service.post("/score", json={"items": list(items), **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def refusal(service: TestClient, status: int, body: Any = None, content: str | None = None) -> dict[str, Any]:
    """The problem document of a request that must be refused with `status`."""
    response = service.post("/score", json=body) if content is None else service.post("/score", content=content)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    return problem


def item(**fields: Any) -> dict[str, Any]:
    return {"prompt": "a b c", "response": "a b c"} | fields


def test_a_reward_is_the_product_of_its_features(service: TestClient) -> None:
    reply = post(service, item(response="a b c d"))

    [result] = reply["results"]
    features = result["features"]
    assert features["length_incentive"] == 0.04
    assert features["repetition_penalty"] == 1.0
    assert features["query_relevance"] == pytest.approx(3 / (3**0.5 * 4**0.5))
    assert features["reference_relevance"] is None
    assert result["reward"] == pytest.approx(0.04 * features["query_relevance"])
    assert reply["rewards"] == [result["reward"]]


def test_order_and_ids_are_kept(service: TestClient) -> None:
    items = [item(response="a b c " * n, id=f"n{n}") for n in range(1, 40)]

    reply = post(service, *items)

    assert [result["id"] for result in reply["results"]] == [i["id"] for i in items]
    lengths = [result["features"]["length_incentive"] for result in reply["results"]]
    assert lengths == sorted(lengths)


def test_messages_and_a_plain_prompt_score_alike(service: TestClient) -> None:
    messages = [{"role": "system", "content": "zzz"}, {"role": "user", "content": "a b c"}]

    reply = post(service, item(), item(prompt=messages))

    assert reply["rewards"][0] == reply["rewards"][1]


def test_a_text_is_embedded_once_however_many_items_share_it(service: TestClient, encoder: LetterEncoder) -> None:
    post(service, *[item(response=f"answer {n}") for n in range(8)])

    texts = [text for call in encoder.calls for text in call]
    assert len(texts) == 9
    assert texts.count("a b c") == 1


def test_gold_comes_with_its_notices_and_only_when_asked_for(service: TestClient, gold: LengthGold) -> None:
    without, with_gold = post(service, item()), post(service, item(), gold=True)

    assert without["results"][0]["gold_reward"] is None
    assert without["models"]["gold"] is None
    assert without["notices"] == []
    assert with_gold["results"][0]["gold_reward"] == 0.5
    assert with_gold["models"] == {
        "relevance": "letters",
        "gold": "length-gold",
        "relevance_revision": "0",
        "gold_revision": "0",
    }
    assert with_gold["notices"] == ["a stand-in of the tests"]
    assert with_gold["rewards"] == without["rewards"]


def test_the_gold_recipe_rewards_with_the_gold_score(service: TestClient) -> None:
    assert post(service, item(response="12345"), recipe="gold")["rewards"] == [0.5]


def test_overrides_change_the_reward_and_the_hash(service: TestClient) -> None:
    closed = item(query_type="closed_ended", reference="a b c")

    full, short = post(service, closed), post(service, closed, recipe_overrides={"max_response_tokens": 128})

    assert full["rewards"] == [pytest.approx(5.12)]
    assert short["rewards"] == [pytest.approx(1.28)]
    assert full["recipe"]["hash"] != short["recipe"]["hash"]


@pytest.mark.parametrize(
    ("given", "query_type", "source"),
    [
        ({}, "open_ended", "default"),
        ({"query_type": "closed_ended", "reference": "x"}, "closed_ended", "given"),
        ({"query_type": "CONSTRAINED", "reference": "x"}, "closed_ended", "given"),
        ({"query_type": "OPENENDED", "reference": "x"}, "open_ended", "given"),
    ],
)
def test_the_reply_says_where_the_query_type_came_from(
    service: TestClient, given: dict[str, str], query_type: str, source: str
) -> None:
    [result] = post(service, item(**given))["results"]

    assert (result["query_type"], result["query_type_source"]) == (query_type, source)


def test_a_default_decides_for_items_with_a_reference_alone(service: TestClient) -> None:
    [result] = post(service, item(reference="x"), query_type_default="closed_ended")["results"]

    assert (result["query_type"], result["query_type_source"]) == ("closed_ended", "default")


def test_an_empty_response_earns_zero_and_a_flag_without_the_encoder(
    service: TestClient, encoder: LetterEncoder
) -> None:
    [result] = post(service, item(response=" \n"))["results"]

    assert result["reward"] == 0.0
    assert result["flags"] == ["empty"]
    assert encoder.calls == []


def test_a_zero_reward_is_written_as_a_float(service: TestClient) -> None:
    assert '"rewards":[0.0]' in service.post("/score", json={"items": [item(response="")]}).text


# Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (item(query_type="closed_ended"), "items.1.reference"),
        (item(reference="x"), "items.1.query_type"),
        (item(prompt=" \n"), "items.1.prompt"),
        (item(prompt=[{"role": "system", "content": "x"}]), "items.1.prompt"),
        (item(prompt=[]), "items.1.prompt"),
        (item(prompt=[{"role": "poet", "content": "x"}]), "items.1.prompt.0.role"),
        (item(query_type="essay"), "items.1.query_type"),
        (item(response=None), "items.1.response"),
        (item(response=3), "items.1.response"),
        (item(refernce="x"), "items.1.refernce"),
        ({"prompt": "a"}, "items.1.response"),
    ],
)
def test_a_wrong_item_is_named_with_its_field(service: TestClient, bad: dict[str, Any], field: str) -> None:
    problem = refusal(service, 422, {"items": [item(), bad]})

    assert field in [error["field"] for error in problem["errors"]]
    assert {error["item"] for error in problem["errors"]} == {1}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"items": []}, "items"),
        ({"recipe": "nope"}, "recipe"),
        ({"recipe_overrides": {"nope": 1}}, "recipe_overrides.nope"),
        ({"step": -1}, "step"),
        ({"on_item_error": "ignore"}, "on_item_error"),
        ({"gold": "perhaps"}, "gold"),
        ({"extra": 1}, "extra"),
        ({"recipe_overrides": {"open_ended": ["gold"]}}, "recipe_overrides"),
        ({"recipe_overrides": {"similarity": "dot"}}, "recipe_overrides"),
    ],
)
def test_a_wrong_field_of_the_request_is_named(service: TestClient, fields: dict[str, Any], field: str) -> None:
    problem = refusal(service, 422, {"items": [item()]} | fields)

    assert [error["field"] for error in problem["errors"]] == [field]


def test_every_bad_item_is_named_not_only_the_first(service: TestClient) -> None:
    problem = refusal(service, 422, {"items": [item(reference="x", id="p"), item(), item(reference="y", id="q")]})

    assert [(error["item"], error["id"]) for error in problem["errors"]] == [(0, "p"), (2, "q")]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[" * 50_000 + "]" * 50_000,
        '{"items": ' + '{"a":' * 50_000 + "1" + "}" * 50_001,
        '{"items":[{"prompt":"a","response":"\\ud800"}]}',
        '{"items":[{"prompt":"a","response":"b"}],"recipe_overrides":{"relevance_floor":NaN}}',
        '{"items":[{"prompt":"a","response":"b"}],"step":Infinity}',
    ],
    ids=["empty", "text", "deep lists", "deep objects", "lone surrogate", "NaN", "Infinity"],
)
def test_what_is_no_good_json_is_refused_clearly(service: TestClient, content: str) -> None:
    assert refusal(service, 422, content=content)["errors"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"items": [item(response="x" * 10_001)]}, "too long"),
        ({"items": [item()] * 101}, "at most 100"),
        ({"items": [item(response="x" * 1_000_001)]}, "more than 1000000 bytes"),
    ],
    ids=["text", "batch", "body"],
)
def test_what_exceeds_a_limit_is_413_and_says_which(service: TestClient, body: Any, detail: str) -> None:
    assert detail in refusal(service, 413, body)["detail"]


def test_a_number_that_is_none_is_an_error_naming_the_item(service: TestClient) -> None:
    problem = refusal(service, 500, {"items": [item(), item(response="NAN", id="bad")]})

    [error] = problem["errors"]
    assert (error["item"], error["id"]) == (1, "bad")


def test_report_gives_bad_items_null_and_a_reason_and_the_others_their_rewards(service: TestClient) -> None:
    items = [item(), item(reference="x", id="no type"), item(response="NAN"), item()]

    reply = post(service, *items, on_item_error="report", gold=True)

    assert [reward is None for reward in reply["rewards"]] == [False, True, True, False]
    assert reply["results"][1]["id"] == "no type"
    assert reply["results"][1]["error"]["field"] == "query_type"
    assert "no score" in reply["results"][2]["error"]["message"]
    assert reply["rewards"][0] == reply["rewards"][3]


def test_gold_that_fails_on_some_items_in_several_ways_costs_the_others_nothing(service: TestClient) -> None:
    items = [item(response=text) for text in ("NAN", "a", "UNREAD", "b", "UNREAD")]

    reply = post(service, *items, recipe="gold", on_item_error="report")

    assert reply["rewards"] == [None, 0.1, None, 0.1, None]
    assert "no score" in reply["results"][0]["error"]["message"]
    assert "cannot read" in reply["results"][4]["error"]["message"]


def test_a_blank_reference_is_none(service: TestClient) -> None:
    assert post(service, item(reference=" "))["results"][0]["query_type"] == "open_ended"
    problem = refusal(service, 422, {"items": [item(reference="", query_type="closed_ended")]})
    assert problem["errors"][0]["field"] == "items.0.reference"


def test_a_compressed_body_is_refused_with_the_reason(service: TestClient) -> None:
    response = service.post("/score", content=b"x", headers={"content-encoding": "gzip"})

    assert response.status_code == 422
    assert "content-encoding" in response.json()["detail"]


def test_a_model_that_fails_is_a_500_with_its_cause_and_the_next_request_works(service: TestClient) -> None:
    assert "encoder exploded" in refusal(service, 500, {"items": [item(response="BOOM")]})["detail"]

    assert post(service, item())["rewards"][0] > 0
