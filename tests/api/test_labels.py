"""References, ids and contents as data sets and chat clients write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

PROMPT = "<|im_start|>user\na b<|im_end|>\n<|im_start|>assistant\n"


def post(service: TestClient, **item: Any) -> Any:
    return service.post("/score", json={"items": [{"prompt": "a b", "response": "c d e", **item}]})


def reward(service: TestClient, **item: Any) -> float:
    reply = post(service, **item)
    assert reply.status_code == 200, reply.text
    return float(reply.json()["rewards"][0])


def openrlhf(service: TestClient, label: Any, query: str = "") -> Any:
    body = {"query": [f"{PROMPT}c d e<|im_end|>"], "prompts": [PROMPT], "labels": [label]}
    return service.post(f"/get_reward{query}", json=body)


CLOSED = {"query_type": "closed_ended"}


@pytest.mark.parametrize(
    ("reference", "text"), [(42, "42"), (0, "0"), (4.5, "4.5"), (False, "false"), (True, "true")]
)
def test_a_number_or_truth_value_is_its_text(service: TestClient, reference: Any, text: str) -> None:
    expected = reward(service, reference=text, **CLOSED)

    assert reward(service, reference=reference, **CLOSED) == expected
    for label in (
        {"reference": reference, **CLOSED},
        json.dumps({"reference": reference, **CLOSED}),
    ):
        assert openrlhf(service, label).json()["rewards"] == [expected]
    assert openrlhf(service, reference, "?query_type_default=closed_ended").json()["rewards"] == [expected]


@pytest.mark.parametrize("reference", [None, "", " \n", [], [None], ["", None, " "]])
def test_null_and_blank_references_and_empty_lists_are_no_reference(service: TestClient, reference: Any) -> None:
    reply = post(service, reference=reference).json()["results"][0]
    assert (reply["query_type"], reply["query_type_source"]) == ("open_ended", "default")
    refused = post(service, reference=reference, **CLOSED)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "items.0.reference")

    assert openrlhf(service, reference).status_code == 200
    assert openrlhf(service, {"reference": reference}).status_code == 200


@pytest.mark.parametrize(
    ("references", "best"),
    [
        (["x y", "c d e"], 1),
        (["c d e", "x y"], 0),
        (["x", "", None, "c d e", "z"], 3),
        (["c d", "c d"], 0),
        ([1, "c d e", 2], 1),
    ],
)
def test_of_several_references_the_best_counts_and_is_named(
    service: TestClient, references: list[Any], best: int
) -> None:
    alone = post(service, reference=references[best], **CLOSED).json()["results"][0]

    result = post(service, reference=references, **CLOSED).json()["results"][0]

    assert result["flags"] == [*alone["flags"], f"best_reference_{best}"]
    assert (result["reward"], result["features"]) == (alone["reward"], alone["features"])
    label = {"reference": references, **CLOSED}
    for posted in (label, json.dumps(label)):
        assert openrlhf(service, posted).json()["rewards"] == [alone["reward"]]
    assert openrlhf(service, references, "?query_type_default=closed_ended").json()["rewards"] == [alone["reward"]]


def test_a_list_with_one_reference_is_that_reference(service: TestClient) -> None:
    single = post(service, reference="c d", **CLOSED).json()["results"]

    assert post(service, reference=[None, "c d"], **CLOSED).json()["results"] == single


def test_an_open_ended_item_does_not_depend_on_its_references(service: TestClient) -> None:
    alone = post(service, query_type="open_ended").json()["results"]

    assert post(service, query_type="open_ended", reference=["c d e", "x"]).json()["results"] == alone


def test_a_list_in_text_is_the_text(service: TestClient) -> None:
    """It may be the answer itself."""
    text = '["c d e", "x y"]'

    expected = reward(service, reference=text, **CLOSED)

    assert openrlhf(service, text, "?query_type_default=closed_ended").json()["rewards"] == [expected]
    assert expected < reward(service, reference=json.loads(text), **CLOSED)


@pytest.mark.parametrize(
    ("reference", "field", "message"),
    [
        ({"text": "c"}, "reference", "must be text, a number, or a list of them"),
        (["c", ["d"]], "reference.1", "Input should be a valid string"),
        (["c", "\ud800"], "reference.1", "unpaired surrogate"),
    ],
)
def test_a_reference_that_is_none_of_these_is_named(
    service: TestClient, reference: Any, field: str, message: str
) -> None:
    items = {"items": [{"prompt": "a", "response": "b", "reference": reference, **CLOSED}]}
    label = {"query": [f"{PROMPT}c"], "prompts": [PROMPT], "labels": [{"reference": reference, **CLOSED}]}

    for path, body, named in (
        ("/score", items, f"items.0.{field}"),
        ("/get_reward", label, f"labels.0.{field}"),
    ):
        reply = service.post(path, content=json.dumps(body), headers={"content-type": "application/json"})

        assert reply.status_code == 422
        (error,) = reply.json()["errors"]
        assert error["field"] in (named, "labels.0.reference.1")
        assert message in error["message"] or "surrogate" in error["message"]


def test_the_number_of_references_is_limited(service: TestClient) -> None:
    most = service.get("/info").json()["limits"]["max_references"]
    assert post(service, reference=["c"] * most, **CLOSED).status_code == 200

    for reply, field in (
        (post(service, reference=["c"] * (most + 1), **CLOSED), "items.0.reference"),
        (openrlhf(service, {"reference": ["c"] * (most + 1), **CLOSED}), "labels.0.reference"),
        (post(service, reference=["c" * 10_001, "d"], **CLOSED), "items.0.reference.0"),
    ):
        assert reply.status_code == 413, reply.text
        assert [error["field"] for error in reply.json()["errors"]] == [field]


@pytest.mark.parametrize(("given", "returned"), [(7, "7"), (0, "0"), ("x", "x"), (7.0, "7.0")])
def test_an_id_may_be_a_number(service: TestClient, given: Any, returned: str) -> None:
    assert post(service, id=given).json()["results"][0]["id"] == returned


# Contents of messages -------------------------------------------------------------------------------------------


def test_text_parts_are_read_as_their_text(service: TestClient) -> None:
    parts = [
        {"type": "text", "text": "a b", "image": None},
        {"type": "input_text", "text": "c", "cache_control": {"type": "ephemeral"}},
    ]
    expected = reward(service, prompt=[{"role": "user", "content": "a b\nc"}])

    assert reward(service, prompt=[{"role": "user", "content": parts}]) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"type": "image_url", "image_url": {"url": "x"}}], "part 0 has the type 'image_url'"),
        ([{"type": "text", "text": "a"}, {"type": "input_audio"}], "part 1 has the type 'input_audio'"),
        ([{"type": "text"}], "part 0 has no text"),
        (["a"], "part 0 is no object with a type"),
        (None, "must be text or a list of text parts"),
        (7, "must be text or a list of text parts"),
    ],
)
def test_other_contents_are_refused_by_name(service: TestClient, content: Any, message: str) -> None:
    reply = post(service, prompt=[{"role": "user", "content": "a"}, {"role": "user", "content": content}])

    assert reply.status_code == 422
    (error,) = reply.json()["errors"]
    assert (error["item"], error["field"]) == (0, "items.0.prompt.1.content")
    assert error["message"].startswith(message)


@pytest.mark.parametrize("prompt", [7, None, {"role": "user"}, True])
def test_a_prompt_of_another_type_is_one_error(service: TestClient, prompt: Any) -> None:
    reply = post(service, prompt=prompt)

    (error,) = reply.json()["errors"]
    assert (error["field"], error["message"]) == ("items.0.prompt", "must be text or a list of messages")
