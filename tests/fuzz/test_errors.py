"""Any JSON body gets a reply; an error reply is short, has few errors, and each of them names a field."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from reward_service.http.problems import MAX_PROBLEM_BYTES
from tests.api.conftest import encoder, gold, service  # noqa: F401 (fixtures)
from tests.generated_cases import cases

pytestmark = pytest.mark.slow

MAX_ERRORS = 100
ITEM = ("prompt", "response", "reference", "query_type", "id", "role", "content", "unknown")
BODY = ("recipe", "recipe_overrides", "gold", "run", "step", "on_item_error", "query_type_default", "unknown")
OVERRIDES = ("stop_strings", "feature_ranges", "open_ended")

long_texts = st.builds(lambda text, n: text * n, st.text(max_size=3), st.sampled_from([1, 50, 2_000]))
keys = st.sampled_from(("items", "query", "prompts", "labels", *ITEM, *BODY, *OVERRIDES)) | long_texts
scalars = st.none() | st.booleans() | st.integers() | st.floats() | long_texts
many_keys = st.sampled_from([3, 150]).map(lambda n: {f"key {i}": i for i in range(n)})


many_values = st.builds(lambda value, n: [value] * n, scalars, st.sampled_from([2, 101, 3_000]))


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=4) | st.dictionaries(keys, values, max_size=5)


documents = st.recursive(scalars | many_keys | many_values, _containers, max_leaves=8)


def _objects(required: dict[str, st.SearchStrategy[Any]], optional: Iterable[str]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=dict.fromkeys(optional, documents))


bodies = (
    documents
    | _objects({"items": documents | st.lists(_objects({}, ITEM), max_size=3)}, BODY)
    | _objects({"query": documents}, ("prompts", "labels"))
)


@pytest.mark.parametrize("path", ["/score", "/get_reward"])
@cases(60)
@given(body=bodies)
def test_an_error_reply_to_any_json_is_short(service: TestClient, path: str, body: Any) -> None:  # noqa: F811
    reply = service.post(path, content=json.dumps(body)[:900_000], headers={"content-type": "application/json"})

    assert reply.status_code in {200, 413, 422}, reply.text
    if reply.status_code != 200:
        errors = reply.json().get("errors", [])
        assert len(reply.content) <= MAX_PROBLEM_BYTES
        assert len(errors) <= MAX_ERRORS
        assert all(error["field"] and error["message"] for error in errors)
