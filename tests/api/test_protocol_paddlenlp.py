"""POST /paddlenlp: parallel lists of decoded texts score like /score; errors name the list and the index."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.test_openrlhf import QUESTION, RESPONSE, TEMPLATES


def post(service: TestClient, body: dict[str, Any], url: str = "/paddlenlp") -> Any:
    return service.post(url, json=body)


@pytest.mark.parametrize("name", TEMPLATES)
def test_decoded_texts_score_like_the_messages(service: TestClient, name: str) -> None:
    template, end = TEMPLATES[name]
    prompt = template.format(prompt=QUESTION)
    item = {"prompt": QUESTION, "response": RESPONSE}
    closed = item | {"reference": "Eight", "query_type": "closed_ended"}
    native = service.post("/score", json={"items": [closed, item]}).json()

    reply = post(
        service, {"src": [prompt] * 2, "tgt": ["Eight" + end, ""], "response": [RESPONSE + end, RESPONSE + end]}
    )

    assert reply.json() == {"score": [pytest.approx(reward, abs=1e-6) for reward in native["rewards"]]}


def test_the_url_decides_the_query_type_of_a_sample_with_a_reference(service: TestClient) -> None:
    body = {"src": ["a b"], "tgt": ["c"], "response": ["a c d"]}
    items = [{"prompt": "a b", "response": "a c d", "reference": "c", "query_type": "open_ended"}]
    native = service.post("/score", json={"items": items}).json()

    assert post(service, body, "/paddlenlp?query_type_default=open_ended").json() == {"score": native["rewards"]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"src": ["a"], "tgt": ["b", "c"], "response": ["d"]}, "tgt"),
        ({"src": ["a"], "tgt": ["b"], "response": []}, "response"),
        ({"src": ["a", " "], "tgt": ["b", ""], "response": ["c", "d"]}, "src.1"),
        ({"src": ["a"], "tgt": ["b"]}, "response"),
    ],
)
def test_wrong_use_is_an_error_that_names_the_field(service: TestClient, body: Any, field: str) -> None:
    reply = post(service, body)

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == [field]
