"""POST /llamafactory: texts with special tokens score like their messages; errors name the wrong ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.test_openrlhf import QUESTION, RESPONSE, TEMPLATES

CHATML, _ = TEMPLATES["chatml"]
TEXT = CHATML.format(prompt=QUESTION) + RESPONSE + "<|im_end|>\n"


def post(service: TestClient, messages: list[str], url: str = "/llamafactory") -> Any:
    return service.post(url, json={"model": "model", "messages": messages})


@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"plain"}))
def test_a_text_scores_like_its_messages(service: TestClient, name: str) -> None:
    template, end = TEMPLATES[name]
    text = template.format(prompt=QUESTION) + RESPONSE + end
    native = service.post("/score", json={"items": [{"prompt": QUESTION, "response": RESPONSE}]}).json()

    reply = post(service, [text, text.replace(RESPONSE, "")])

    assert reply.json()["scores"] == [pytest.approx(native["rewards"][0], abs=1e-6), 0]


def test_the_url_selects_the_recipe_and_an_empty_batch_has_no_scores(service: TestClient) -> None:
    assert post(service, [TEXT], "/llamafactory?recipe=li").json() == {"scores": [pytest.approx(0.1)]}
    assert post(service, []).json() == {"scores": []}


@pytest.mark.parametrize("text", ["Why?\nBecause.", TEXT + TEXT])
def test_a_text_whose_response_cannot_be_found_is_named(service: TestClient, text: str) -> None:
    reply = post(service, [TEXT, text])

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == ["messages.1"]
    assert "one assistant marker" in reply.json()["errors"][0]["message"]


def test_a_failure_has_no_scores(service: TestClient) -> None:
    """The client reads `scores` of any reply, so an error must not have them."""
    failed = post(service, [TEXT, TEXT.replace(RESPONSE, "NAN")])
    too_long = post(service, [TEXT, TEXT + "x" * 10_000])

    assert (failed.status_code, too_long.status_code) == (500, 413)
    assert [error["field"] for error in failed.json()["errors"]] == ["messages.1"]
    assert [error["field"] for error in too_long.json()["errors"]] == ["messages.1"]
    assert "scores" not in failed.json()


def test_a_data_set_on_the_service_has_the_references(service: TestClient) -> None:
    """The protocol itself has none."""
    row = {"prompt": QUESTION, "reference": "eight legs", "query_type": "closed_ended"}
    item = row | {"response": RESPONSE}
    expected = service.post("/score", json={"items": [item]}).json()["rewards"]
    assert service.put("/datasets/legs", content=json.dumps(row)).status_code in {200, 201}

    assert post(service, [TEXT], "/llamafactory?dataset=legs").json() == {"scores": expected}
    assert post(service, [TEXT.replace("spider", "crab")], "/llamafactory?dataset=legs").status_code == 422
