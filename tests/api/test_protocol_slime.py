"""POST /slime: slime's and miles' request and reply; every number is that of /score, and a failure is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

QUESTION = "How many legs has a spider?"
ANSWER = "A spider has eight legs, and no wings."
CHATML = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
MESSAGES = [{"role": "user", "content": QUESTION, "name": "a user"}]


def sample(prompt: Any = QUESTION, response: str = f"{ANSWER}<|im_end|>", label: Any = None) -> dict[str, Any]:
    return {"prompt": prompt, "response": response, "label": label}


def native(service: TestClient, **fields: Any) -> dict[str, Any]:
    body = {"items": [{"prompt": QUESTION, "response": ANSWER} | fields], "gold": True}
    reply: dict[str, Any] = service.post("/score", json=body).json()["results"][0]
    return reply


@pytest.mark.parametrize("prompt", [QUESTION, CHATML, MESSAGES], ids=["text", "rendered", "messages"])
def test_the_reply_is_the_reward_of_score_as_a_bare_number(service: TestClient, prompt: Any) -> None:
    reply = service.post("/slime", json=sample(prompt))

    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == pytest.approx(native(service)["reward"], rel=1e-6)


@pytest.mark.parametrize("response", ["", "<|im_end|>"])
def test_a_reward_of_zero_is_written_as_a_float(service: TestClient, response: str) -> None:
    assert service.post("/slime", json=sample(response=response)).text == "0.0"


def test_keyed_replies_have_the_features_that_apply(service: TestClient) -> None:
    reply = service.post("/slime?keyed=1&gold=true", json=sample()).json()
    expected = native(service)

    features = {name: value for name, value in expected["features"].items() if value is not None}
    assert reply == features | {"score": expected["reward"], "gold_reward": expected["gold_reward"]}


CLOSED = {"reference": "eight legs", "query_type": "closed_ended"}
OPEN = {"reference": "eight legs", "query_type": "open_ended"}


@pytest.mark.parametrize(
    ("url", "label", "fields"),
    [
        ("/slime", "eight legs", CLOSED),
        ("/slime", 8, CLOSED | {"reference": 8}),
        ("/slime", ["eight", "8 legs"], CLOSED | {"reference": ["eight", "8 legs"]}),
        ("/slime?query_type_default=open_ended", "eight legs", OPEN),
        ("/slime", OPEN, OPEN),
        ("/slime", json.dumps(OPEN), OPEN),
        ("/slime", "", {}),
    ],
)
def test_a_label_is_the_reference_of_a_closed_ended_item_unless_something_says_otherwise(
    service: TestClient, url: str, label: Any, fields: dict[str, Any]
) -> None:
    reply = service.post(url, json=sample(label=label))

    assert reply.json() == pytest.approx(native(service, **fields)["reward"], rel=1e-6)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (sample(label={"reference": "eight", "kind": "closed"}), "label.kind"),
        (sample(label={"query_type": "closed_ended"}), "label.reference"),
        (sample([{"role": "user", "content": None}]), "prompt"),
        (sample([{"role": "robot", "content": "Hi?"}]), "prompt"),
        (sample([]), "prompt"),
        (sample(" "), "prompt"),
        ({"prompt": QUESTION, "label": None}, "response"),
        ([sample()], "body"),
    ],
)
def test_wrong_use_names_the_field_of_the_sample(service: TestClient, body: Any, field: str) -> None:
    reply = service.post("/slime", json=body)

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == [field]


def test_a_wrong_message_is_named_by_its_index(service: TestClient) -> None:
    reply = service.post("/slime", json=sample([*MESSAGES, {"role": "assistant", "content": None}]))

    assert "message 1 has a wrong content" in reply.json()["errors"][0]["message"]


@pytest.mark.parametrize("url", ["/slime?keyed=2", "/slime?keyed=1&keyed=1", "/slime?recipe=none"])
def test_wrong_options_are_refused(service: TestClient, url: str) -> None:
    assert service.post(url, json=sample()).status_code == 422


@pytest.mark.parametrize("url", ["/slime", "/slime?keyed=1", "/slime?gold=true"])
def test_a_model_that_answers_nan_gives_an_error_and_no_number(service: TestClient, url: str) -> None:
    reply = service.post(url, json=sample(response="NAN"))

    assert reply.status_code == 500
    assert [error["field"] for error in reply.json()["errors"]] == ["response"]


@pytest.mark.parametrize("prompt", ["x" * 10_001, [{"role": "user", "content": "x" * 10_001}]])
def test_a_text_over_the_limit_is_too_large(service: TestClient, prompt: Any) -> None:
    reply = service.post("/slime", json=sample(prompt))

    assert reply.status_code == 413
    assert reply.json()["errors"][0]["field"].startswith("prompt")


def test_a_label_over_the_limit_is_too_large_before_it_is_decoded(service: TestClient) -> None:
    label = '{"note": [' + "1," * 5_000 + "1]}"

    reply = service.post("/slime", json=sample(label=label))

    assert reply.status_code == 413
    assert [error["field"] for error in reply.json()["errors"]] == ["label"]


def test_a_run_in_the_path_is_accepted(service: TestClient) -> None:
    assert service.post("/r/run-1/slime", json=sample()).json() == service.post("/slime", json=sample()).json()
