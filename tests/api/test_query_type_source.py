"""The setting `query_type_source`: which items the classifier decides, and that it changes no others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from reward_service.settings import Settings
from tests.live import serving

POEM, FACT = "Write a poem about autumn.", "What is the capital of Norway?"
FLAG = "query_type_by_classifier"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(query_type_source="classifier")) as url:
        yield url


@pytest.fixture(scope="module")
def usual() -> Iterator[str]:
    with serving(Settings()) as url:
        yield url


def score(url: str, *items: dict[str, Any], **options: Any) -> httpx.Response:
    body = {"items": [{"response": "a b", **item} for item in items], **options}
    return httpx.post(f"{url}/score", json=body)


def types(reply: httpx.Response) -> list[tuple[str, str, bool]]:
    assert reply.status_code == 200, reply.text
    results = reply.json()["results"]
    return [(one["query_type"], one["query_type_source"], FLAG in one["flags"]) for one in results]


def test_items_with_a_reference_and_no_query_type_get_the_guess_and_a_flag(url: str) -> None:
    items = {"prompt": POEM, "reference": "a"}, {"prompt": FACT, "reference": "a"}

    assert types(score(url, *items)) == [("open_ended", "classifier", True), ("closed_ended", "classifier", True)]


def test_what_a_request_states_has_priority(url: str) -> None:
    assert types(score(url, {"prompt": POEM, "reference": "a", "query_type": "closed_ended"})) == [
        ("closed_ended", "given", False)
    ]
    assert types(score(url, {"prompt": POEM, "reference": "a"}, query_type_default="closed_ended")) == [
        ("closed_ended", "default", False)
    ]
    with_default = {"recipe_overrides": {"query_type_default": "closed_ended"}}
    assert types(score(url, {"prompt": POEM, "reference": "a"}, **with_default)) == [
        ("closed_ended", "default", False)
    ]


def test_an_item_without_a_reference_is_open_ended_as_before(url: str) -> None:
    """A closed-ended one could not be scored."""
    assert types(score(url, {"prompt": FACT})) == [("open_ended", "default", False)]


def test_a_prompt_without_words_is_an_error_that_names_the_field(url: str) -> None:
    reply = score(url, {"prompt": "?!", "reference": "a"})

    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (422, "items.0.query_type")


def test_the_last_user_turn_of_a_conversation_is_classified(url: str) -> None:
    messages = [
        {"role": "user", "content": POEM},
        {"role": "assistant", "content": "Leaves fall."},
        {"role": "user", "content": FACT},
    ]
    assert types(score(url, {"prompt": messages, "reference": "a"})) == [("closed_ended", "classifier", True)]


def test_protocols_without_query_types_use_it_too_unless_the_url_has_a_default(url: str, usual: str) -> None:
    body = {"query": [f"{POEM}\na b"], "prompts": [f"{POEM}\n"], "labels": ["a"]}

    guessed = httpx.post(f"{url}/get_reward", json=body).json()
    stated = httpx.post(f"{url}/get_reward?query_type_default=closed_ended", json=body).json()

    assert (guessed["extra_logs"]["closed_ended"], FLAG in guessed["flags"][0]) == ([0.0], True)
    assert (stated["extra_logs"]["closed_ended"], FLAG in stated["flags"][0]) == ([1.0], False)
    assert httpx.post(f"{usual}/get_reward", json=body).json()["extra_logs"]["closed_ended"] == [1.0]


def test_a_protocol_whose_labels_are_closed_ended_by_default_uses_the_guess(url: str, usual: str) -> None:
    body = {"prompt": POEM, "response": "a b", "label": "a"}

    guessed, closed, opened = (
        httpx.post(f"{base}/slime?recipe=rer{default}", json=body).json()
        for base, default in ((url, ""), (usual, ""), (usual, "&query_type_default=open_ended"))
    )
    assert guessed == opened != closed


def test_without_the_setting_such_an_item_is_an_error(usual: str) -> None:
    reply = score(usual, {"prompt": POEM, "reference": "a"})

    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (422, "items.0.query_type")
