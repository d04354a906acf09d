"""POST /eval_protocol: a conversation scores like /score; metrics are the features in [0, 1]."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

CHAT = [{"role": "user", "content": "a b c"}, {"role": "assistant", "content": "a b b"}]


def post(service: TestClient, url: str = "/eval_protocol", **body: Any) -> Any:
    return service.post(url, json={"messages": CHAT} | body)


def native(service: TestClient, **fields: Any) -> Any:
    item = {"prompt": "a b c", "response": "a b b"} | fields
    return service.post("/score", json={"items": [item]}).json()["results"][0]


@pytest.mark.parametrize(
    ("sent", "means"),
    [
        ({"ground_truth": "a c"}, {"reference": "a c", "query_type": "closed_ended"}),
        ({"ground_truth": "a c", "query_type": "open_ended"}, {"reference": "a c", "query_type": "open_ended"}),
        ({"ground_truth": CHAT[:1]}, {}),
        ({"ground_truth": None, "temperature": 0.7}, {}),
        (
            {"ground_truth": {"reference": "a c", "query_type": "closed_ended"}},
            {"reference": "a c", "query_type": "closed_ended"},
        ),
    ],
)
def test_the_score_is_that_of_the_conversation(
    service: TestClient, sent: dict[str, Any], means: dict[str, Any]
) -> None:
    reply = post(service, **sent)

    assert reply.status_code == 200, reply.text
    assert reply.json()["score"] == native(service, **means)["reward"]


def test_features_in_0_to_1_are_metrics_and_the_reason_has_all(service: TestClient) -> None:
    expected = native(service, reference="a c", query_type="closed_ended")["features"]

    reply = post(service, "/eval_protocol?gold=true", ground_truth="a c").json()

    assert {name: metric["score"] for name, metric in reply["metrics"].items()} == {
        "repetition_penalty": expected["repetition_penalty"]
    }
    assert f"reference_relevance {expected['reference_relevance']:.6g}" in reply["reason"]
    assert "gold_reward 0.5" in reply["reason"]


def test_messages_may_have_other_keys_and_no_content(service: TestClient) -> None:
    calls: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": []}
    chat = [CHAT[0], calls, {"role": "tool", "content": "x", "tool_call_id": "1"}, CHAT[1]]

    assert service.post("/eval_protocol", json={"messages": chat}).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": CHAT[:1]}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages.0.role"),
        ({"query_type": "closed_ended"}, "ground_truth"),
        ({"query_type": "closed"}, "query_type"),
        ({"ground_truth": {"answer": "a"}}, "ground_truth.answer"),
    ],
)
def test_wrong_use_is_an_error_that_names_the_field(service: TestClient, body: dict[str, Any], field: str) -> None:
    reply = post(service, **body)

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == [field]


def test_a_ground_truth_over_the_limit_is_too_large_before_it_is_decoded(service: TestClient) -> None:
    reply = post(service, ground_truth='{"note": [' + "1," * 5_000 + "1]}")

    assert reply.status_code == 413
    assert [error["field"] for error in reply.json()["errors"]] == ["ground_truth"]


def test_a_failure_is_an_error_status_without_a_score(service: TestClient) -> None:
    """The client ignores `is_score_valid`."""
    reply = service.post("/eval_protocol", json={"messages": [CHAT[0], {"role": "assistant", "content": "NAN"}]})

    assert reply.status_code == 500
    assert "score" not in reply.json()
