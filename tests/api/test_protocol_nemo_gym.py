"""/nemo_gym/…: a resources server of NeMo-Gym that scores as POST /score does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

QUESTION, ANSWER = "How many legs has a spider?", "A spider has eight legs, and no wings."


def message(*texts: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": parts}


def row(*output: dict[str, Any], prompt: Any = QUESTION, **columns: Any) -> dict[str, Any]:
    """The body that verifiers and NeMo-Gym post for a row of their data set."""
    return {
        "responses_create_params": {"input": prompt, "temperature": 1.0},
        "response": {"id": "r1", "object": "response", "output": list(output or [message(ANSWER)])},
        "_ng_task_index": 3,
        **columns,
    }


def verify(service: TestClient, body: dict[str, Any], options: str = "") -> dict[str, Any]:
    response = service.post(f"/nemo_gym{options}/verify", json=body)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def score(service: TestClient, response: str = ANSWER, prompt: Any = QUESTION, **fields: Any) -> dict[str, Any]:
    item = {"prompt": prompt, "response": response} | fields
    result: dict[str, Any] = service.post("/score", json={"items": [item], "gold": True}).json()["results"][0]
    return result


def test_the_reply_is_the_request_with_reward_and_features(service: TestClient) -> None:
    body = row(category={"level": [1, 2.5, None]})
    direct = score(service)

    reply = verify(service, body)

    assert {name: reply[name] for name in body} == body
    assert reply["reward"] == direct["reward"]
    for name, value in direct["features"].items():
        assert reply.get(f"glassbox/{name}") == value  # one that does not apply is absent: clients average


def test_the_parts_sum_to_the_reward(service: TestClient) -> None:
    reply = verify(service, row(expected_answer="Eight.", query_type="closed_ended"))
    parts = [value for name, value in reply.items() if name.startswith("glassbox/part/")]

    assert len(parts) > 2
    assert sum(parts) == pytest.approx(reply["reward"], rel=1e-9)


def test_options_are_a_part_of_the_path(service: TestClient) -> None:
    reply = verify(service, row(), "/recipe=li&gold=true")
    unknown = service.post("/nemo_gym/recipe=none/verify", json=row())

    assert reply["glassbox/gold_reward"] == score(service)["gold_reward"]
    assert reply["reward"] != score(service)["reward"]
    assert unknown.status_code == 422
    assert "none" in unknown.text


@pytest.mark.parametrize("column", ["reference", "expected_answer"])
def test_the_reference_is_a_column_of_the_row(service: TestClient, column: str) -> None:
    reply = verify(service, row(**{column: 8}))

    assert reply["reward"] == score(service, reference="8", query_type="closed_ended")["reward"]
    assert reply[column] == 8


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ("", {"query_type": "open_ended"}),
        ("/recipe=rer&query_type_default=closed_ended", {"query_type": "open_ended"}),
        ("/query_type_default=open_ended", {}),
    ],
)
def test_a_row_with_a_reference_is_open_ended_where_the_row_or_the_url_says_so(
    service: TestClient, options: str, columns: dict[str, str]
) -> None:
    reply = verify(service, row(expected_answer="8", **columns), options)

    assert reply["reward"] == score(service, reference="8", query_type="open_ended")["reward"]


def test_the_last_message_of_the_policy_is_scored(service: TestClient) -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]},
        {"type": "function_call", "call_id": "1", "name": "count", "arguments": "{}"},
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
    ]
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": QUESTION},
    ]
    call = {"type": "function_call", "call_id": "2", "name": "count", "arguments": "{}"}
    reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "spiders"}]}

    reply = verify(service, row(message("I count."), call, reasoning, message("Eight", "legs"), prompt=turns))

    assert reply["reward"] == score(service, "Eight\nlegs", messages)["reward"]


def test_instructions_are_the_system_message(service: TestClient) -> None:
    body = row()
    body["responses_create_params"]["instructions"] = "Be brief."
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]

    assert verify(service, body)["reward"] == score(service, prompt=prompt)["reward"]


def test_a_response_without_a_message_is_an_empty_one(service: TestClient) -> None:
    reply = verify(service, row({"type": "reasoning", "summary": []}))

    assert reply["reward"] == score(service, "")["reward"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (row(prompt=""), "responses_create_params.input"),
        (row(prompt=[]), "responses_create_params.input"),
        (row(prompt=3), "responses_create_params.input"),
        (row(prompt=[{"role": "robot", "content": "x"}]), "responses_create_params.input.0.role"),
        (
            row(prompt=[{"type": "reasoning"}, {"role": "user", "content": [{"type": "input_image"}]}]),
            "responses_create_params.input.1.content",
        ),
        (row({"type": "message", "content": [{"type": "audio"}]}), "response.output.0.content"),
        (row(message("NAN")), "response.output.0.content"),
        (row(query_type="closed_ended"), "expected_answer"),
        (row(reference=None, query_type="closed_ended"), "reference"),
        (row(reference={"a": 1}), "reference"),
        (row(query_type="half"), "query_type"),
        ({"response": {"output": []}}, "responses_create_params"),
        ({"responses_create_params": {"input": "x"}}, "response"),
    ],
)
def test_what_cannot_be_scored_is_an_error_that_names_the_field(
    service: TestClient, body: dict[str, Any], field: str
) -> None:
    response = service.post("/nemo_gym/verify", json=body)

    assert response.status_code >= 400
    assert "reward" not in response.json()
    assert [error["field"] for error in response.json()["errors"]] == [field]


def test_a_number_that_is_no_json_is_an_error(service: TestClient) -> None:
    content = (
        '{"responses_create_params": {"input": "x"}, "response": {"output": []}, "extra": {"seen": [1, NaN]}}'
    )
    response = service.post("/nemo_gym/verify", content=content, headers={"content-type": "application/json"})

    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["extra.seen.1"]


def test_long_texts_are_refused_by_their_field(service: TestClient) -> None:
    long = "x" * 10_001
    prompt = service.post("/nemo_gym/verify", json=row(prompt=long))
    reply = service.post("/nemo_gym/verify", json=row(message("short"), message(long)))

    assert (prompt.status_code, reply.status_code) == (413, 413)
    assert prompt.json()["errors"][0]["field"] == "responses_create_params.input"
    assert reply.json()["errors"][0]["field"] == "response.output.1.content"


# Routes that score nothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["seed_session", "close_session"])
def test_a_session_has_no_state(service: TestClient, route: str) -> None:
    reply = service.post(f"/nemo_gym/recipe=li/{route}", json=row())

    assert (reply.status_code, reply.json()) == (200, {})


@pytest.mark.parametrize("options", ["recipe=none", "recipe=li&recipe=rer", "dataset=none"])
def test_wrong_options_are_an_error_when_the_session_begins(service: TestClient, options: str) -> None:
    assert service.post(f"/nemo_gym/{options}/seed_session", json=row()).status_code == 422


def test_references_can_be_in_a_data_set_of_the_service(service: TestClient) -> None:
    stored = json.dumps({"prompt": QUESTION, "reference": "Eight.", "query_type": "closed_ended"})
    assert service.put("/datasets/legs", content=stored).status_code < 300

    assert service.post("/nemo_gym/dataset=legs/seed_session", json=row()).status_code == 200
    reply = verify(service, row(), "/dataset=legs")

    assert reply["reward"] == score(service, reference="Eight.", query_type="closed_ended")["reward"]


def test_responses_can_be_verified_again(service: TestClient) -> None:
    assert service.get("/nemo_gym/reverify_mode").json() == "stateless"


def test_metrics_are_statistics_of_each_task_and_of_all_of_them(service: TestClient) -> None:
    responses = [
        {
            "_ng_task_index": 4,
            "_ng_rollout_index": 0,
            "reward": 1.0,
            "glassbox/x": 2.0,
            "right": True,
            "text": "a",
        },
        {"_ng_task_index": 4, "_ng_rollout_index": 1, "reward": 3.0},
        {"_ng_task_index": 2, "_ng_rollout_index": 0, "reward": 8.0, "id": 10**400},
    ]

    reply = service.post("/nemo_gym/aggregate_metrics", json={"verify_responses": responses}).json()

    assert [task["_ng_task_index"] for task in reply["group_level_metrics"]] == [2, 4]
    assert [task["mean/reward"] for task in reply["group_level_metrics"]] == [8.0, 2.0]
    assert [task["std/reward"] for task in reply["group_level_metrics"]] == [0.0, pytest.approx(2**0.5)]
    assert reply["key_metrics"] == {"mean/reward": 4.0, "mean/glassbox/x": 2.0, "mean/right": 1.0}
    assert {name: reply["agent_metrics"][name] for name in ("max/reward", "min/reward", "median/reward")} == {
        "max/reward": 8.0,
        "min/reward": 1.0,
        "median/reward": 3.0,
    }


def test_metrics_need_verify_responses(service: TestClient) -> None:
    response = service.post("/nemo_gym/aggregate_metrics", json={"responses": []})

    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["verify_responses"]
    assert service.post("/nemo_gym/aggregate_metrics", json={"verify_responses": []}).json()["agent_metrics"] == {}


@pytest.mark.parametrize("task", [10**400, 2**53, -(2**53), True, 1.5, "1"])
def test_a_task_that_is_no_whole_number_is_an_error_of_its_response(service: TestClient, task: Any) -> None:
    responses = [{"_ng_task_index": 1, "reward": 1.0}, {"_ng_task_index": task, "reward": 1.0}]

    reply = service.post("/nemo_gym/aggregate_metrics", json={"verify_responses": responses})

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == ["verify_responses.1._ng_task_index"]


def test_metrics_that_would_be_much_longer_than_the_request_are_refused(service: TestClient) -> None:
    responses = [{"_ng_task_index": task, **{f"{task}-{field}": 1 for field in range(100)}} for task in range(150)]

    reply = service.post("/nemo_gym/aggregate_metrics", json={"verify_responses": responses})
    fewer = service.post("/nemo_gym/aggregate_metrics", json={"verify_responses": responses[:100]})

    assert reply.status_code == 413
    assert [error["field"] for error in reply.json()["errors"]] == ["verify_responses"]
    assert len(fewer.json()["agent_metrics"]) == 5 * 100 * 100


def test_a_stored_reply_that_is_verified_again_has_the_numbers_of_the_new_recipe_alone(
    service: TestClient,
) -> None:
    stored = verify(service, row(category="legs"), "/recipe=rer&gold=true")

    again = verify(service, stored, "/recipe=li")

    assert again == verify(service, row(category="legs"), "/recipe=li")
    assert "glassbox/gold_reward" in stored
