"""Every input has a bound on the whole, and its refusal is short: each field huge, many, deep, repeated, wrong.

docs/reference/settings.md has the table of the limits. What others see meanwhile is measured during all tests of
this module, and asserted after the last one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.hostile.service import HostileTarget
from tests.api.hostile.witness import Witness, statuses
from tests.live import item

pytestmark = pytest.mark.slow

MAX_ERRORS = 100
MANY = 100_000
HUGE = 8_000_000


@pytest.fixture(scope="module")
def witness(target: HostileTarget) -> Iterator[Witness]:
    with Witness(target) as witness:
        yield witness


def unknown(n: int) -> dict[str, int]:
    """An object with `n` keys."""
    return {f"k{number}": 1 for number in range(n)}


def messages(n: int, content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}] * n


def scored(**fields: Any) -> bytes:
    """A `/score` body with a good item."""
    return json.dumps({"items": [item()]} | fields).encode()


def second(**fields: Any) -> bytes:
    """A `/score` body whose second item has `fields`."""
    return json.dumps({"items": [item(), item() | fields]}).encode()


def overridden(**parameters: Any) -> bytes:
    return scored(recipe_overrides=parameters)


def repeated(where: str, key: str) -> bytes:
    """A `/score` body with `where` filled with a key many times."""
    pairs = b",".join([f'"{key}": 1'.encode()] * MANY)
    return where.encode().replace(b"#", pairs)


def labelled(label: Any) -> bytes:
    sample = {"query": "Why?Because.", "prompts": "Why?", "labels": None}
    return json.dumps({k: [v, v] for k, v in sample.items()} | {"labels": [None, label]}).encode()


TOO_LARGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "texts of an item together": (lambda: second(response="r" * 200_000, reference="x" * 200_001), "reference"),
    "40 messages of 200,000 characters": (lambda: second(prompt=messages(40, "m" * 200_000)), "prompt.2.content"),
    "many messages": (lambda: second(prompt=messages(1_001, "")), "prompt"),
    "very many messages": (lambda: second(prompt=messages(60_000, "")), "prompt"),
    "a long message": (lambda: second(prompt=messages(1, "m" * 200_001)), "prompt.0.content"),
    "a long prompt": (lambda: second(prompt="p" * 200_001), "prompt"),
    "a long response": (lambda: second(response="r" * HUGE), "response"),
    "a long response of escapes": (lambda: second(response="\u4e00" * 4_000_000), "response"),
    "a long reference": (lambda: second(reference="r" * 200_001), "reference"),
    "a long id": (lambda: second(id="i" * 257), "id"),
    "a huge key": (lambda: second(**{"k" * HUGE: 1}), ""),
    "a huge id": (lambda: second(id="i" * HUGE), "id"),
}

TOO_LARGE_REQUEST: dict[str, tuple[Callable[[], bytes], str]] = {
    "a long run": (lambda: scored(run="r" * 257), "run"),
    "a huge run": (lambda: scored(run="r" * 30_000_000), "run"),
    "stop strings": (lambda: overridden(stop_strings=["s"] * 65), "recipe_overrides.stop_strings"),
    "very many stop strings": (lambda: overridden(stop_strings=["s"] * 10_000), "recipe_overrides.stop_strings"),
    "a long stop string": (lambda: overridden(stop_strings=["a", "s" * 257]), "recipe_overrides.stop_strings.1"),
    "long overrides": (lambda: overridden(calibrated_for="m" * 32_769), "recipe_overrides.calibrated_for"),
    "deep overrides": (
        lambda: overridden(feature_ranges={"a": {"b": [[[[0]]], 1]}}),
        "recipe_overrides.feature_ranges",
    ),
    "many factors": (lambda: overridden(open_ended=["length_incentive"] * 300), "recipe_overrides.open_ended"),
    "many values": (lambda: scored(recipe_overrides={"a": [[[]] * 60_000] * 40}), "recipe_overrides"),
}

TOO_MANY: dict[str, tuple[Callable[[], bytes], str]] = {
    "very many unknown overrides": (lambda: overridden(**unknown(600_000)), "recipe_overrides"),
    "unknown keys": (lambda: scored(**unknown(600_000)), "body"),
    "unknown keys of an item": (lambda: second(**unknown(600_000)), "items.1"),
    "a long key": (lambda: scored(**{"k" * 190_000: 1}), "body"),
    "a long key of an item": (lambda: second(**{"k" * 1_025: 1}), "items.1"),
    "unknown keys of a message": (
        lambda: second(prompt=[messages(1, "m")[0] | unknown(MANY)]),
        "items.1.prompt.0",
    ),
    "repeated keys": (lambda: repeated('{"items": [{#}]}', "prompt"), "items.0"),
    "repeated keys of overrides": (
        lambda: repeated('{"items": [], "recipe_overrides": {#}}', "a"),
        "recipe_overrides",
    ),
}

WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "unknown overrides": (lambda: overridden(**unknown(100)), "recipe_overrides.k0"),
    "wrong overrides": (lambda: overridden(stop_strings=[1] * 200), "recipe_overrides.stop_strings"),
    "some unknown keys of an item": (lambda: second(**unknown(120)), "items.1.k0"),
    "repeated keys of the body": (lambda: repeated("{#}", "gold"), "gold"),
    "wrong items": (lambda: json.dumps({"items": [1] * 65_000}).encode(), "items.0"),
    "wrong messages": (lambda: second(prompt=[1] * 60_000), "items.1.prompt"),
    "items with wrong fields": (lambda: json.dumps({"items": [{"prompt": 1}] * MANY}).encode(), "items.0.prompt"),
    "a list for every field": (
        lambda: json.dumps(dict.fromkeys(("run", "recipe", "gold"), [1] * 60_000)).encode(),
        "",
    ),
    "a huge step": (lambda: scored(step=2**63), "step"),
    "a huge recipe": (lambda: scored(recipe="r" * 190_000), "recipe"),
    "a huge query type": (lambda: second(query_type="q" * 190_000), "items.1.query_type"),
    "a huge policy": (lambda: scored(on_item_error="q" * 190_000), "on_item_error"),
    "nested lists": (lambda: b'{"items": ' + b"[" * 1_000_000, "items"),
    "closed-ended items without a reference": (
        lambda: json.dumps({"items": [item(query_type="closed_ended", id="i" * 256)] * 4_096}).encode(),
        "items.0.reference",
    ),
}

FOREIGN: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "long queries": (lambda: json.dumps({"query": ["q" * 200_001] * 3}).encode(), 413, "query.0"),
    "wrong queries": (lambda: json.dumps({"query": [1] * 65_000}).encode(), 422, "query.0"),
    "wrong prompts": (lambda: json.dumps({"query": "a", "prompts": [1] * 65_000}).encode(), 422, "prompts.0"),
    "a long label": (lambda: labelled("l" * 200_001), 413, "labels.1"),
    "a long reference": (lambda: labelled({"reference": "r" * 200_001}), 413, "labels.1.reference"),
    "a long id": (lambda: labelled({"id": "i" * 257}), 413, "labels.1.id"),
    "a long id in JSON": (lambda: labelled(json.dumps({"id": "i" * 257})), 413, "labels.1.id"),
    "unknown keys": (lambda: labelled(unknown(MANY)), 413, "labels.1"),
    "unknown keys in JSON": (lambda: labelled(json.dumps(unknown(10_000))), 422, "labels.1.k0"),
    "many values": (lambda: labelled([[[]] * 60_000] * 40), 413, "labels.1"),
    "many labels": (lambda: json.dumps({"query": "a", "labels": [None] * MANY}).encode(), 413, "labels"),
}


def refused(witness: Witness, path: str, content: bytes, status: int, field: str) -> list[dict[str, Any]]:
    """The errors of the reply. `Witness` checks its length, and that others are served meanwhile."""
    reply = witness.post(path, content)
    assert reply.status == status, reply.body[:1_000]
    errors: list[dict[str, Any]] = reply.json()["errors"]
    assert 1 <= len(errors) <= MAX_ERRORS
    assert any(error["field"].startswith(field) for error in errors), errors[:3]
    return errors


@pytest.mark.parametrize("name", TOO_LARGE)
def test_an_item_over_a_limit_is_named(witness: Witness, name: str) -> None:
    content, field = TOO_LARGE[name]

    errors = refused(witness, "/score", content(), 413, f"items.1.{field}".rstrip("."))

    assert {error["item"] for error in errors} == {1}


@pytest.mark.parametrize("name", TOO_LARGE_REQUEST)
def test_a_field_of_a_request_over_a_limit_is_named(witness: Witness, name: str) -> None:
    content, field = TOO_LARGE_REQUEST[name]

    [error] = refused(witness, "/score", content(), 413, field)

    assert "item" not in error


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_few_however_many_fields_are_wrong(witness: Witness, name: str) -> None:
    content, field = WRONG[name]

    refused(witness, "/score", content(), 422, field)


@pytest.mark.parametrize("name", TOO_MANY)
def test_more_keys_than_an_object_may_have_are_one_error(witness: Witness, name: str) -> None:
    content, field = TOO_MANY[name]

    [_] = refused(witness, "/score", content(), 413, field)


@pytest.mark.parametrize("name", FOREIGN)
def test_limits_of_openrlhfs_protocol(witness: Witness, name: str) -> None:
    content, status, field = FOREIGN[name]

    errors = refused(witness, "/get_reward", content(), status, field)

    if field.startswith("labels.1"):
        assert {error["item"] for error in errors} == {1}


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("&".join(f"k{n}=1" for n in range(101)), 413, "url"),
        ("&".join(f"k{n}=1" for n in range(5_000)), 413, "url"),
        ("&".join(f"k{n}=1" for n in range(99)), 422, "recipe_overrides.k0"),
        ("&".join(["gold=true"] * 100), 422, "url"),
        ("recipe=" + "r" * 50_000, 422, "recipe"),
        ("gold=" + "g" * 50_000, 422, "gold"),
        ("k" * 50_000 + "=1", 422, "recipe_overrides.k"),
        ("stop_strings=" + quote(json.dumps(["s"] * 65)), 413, "recipe_overrides.stop_strings"),
        (
            "stop_strings=" + quote(json.dumps([1] * 10_000, separators=(",", ":")), safe="[],"),
            413,
            "recipe_overrides.stop_strings",
        ),
        ("open_ended=" + "[" * 20_000, 422, "recipe_overrides.open_ended"),
    ],
    ids=[
        *("parameters", "many parameters", "unknown parameters", "repeated", "recipe", "gold", "a long name"),
        *("stop strings", "many values", "deep"),
    ],
)
def test_limits_of_a_url(witness: Witness, query: str, status: int, field: str) -> None:
    content = json.dumps({"query": "Why?Because.", "prompts": "Why?"}).encode()

    refused(witness, f"/get_reward?{query}", content, status, field)


def test_a_run_in_the_path_is_bounded(witness: Witness) -> None:
    content = json.dumps({"query": "Why?Because.", "prompts": "Why?"}).encode()

    [error] = refused(witness, f"/r/{'r' * 257}/get_reward", content, 413, "run")

    assert "item" not in error


def test_what_is_just_within_the_limits_is_scored(witness: Witness) -> None:
    full = item(id="i" * 256) | {"prompt": messages(1_000, "m" * 100), "response": "r" * 200_000}
    bodies = [
        {"items": [full | {"reference": "x" * 100_000, "query_type": "open_ended"}], "run": "r" * 256},
        {"items": [full], "recipe_overrides": {"stop_strings": [f"{n}" * 128 for n in range(10, 74)]}},
    ]

    replies = [witness.post("/score", body) for body in bodies]

    assert statuses(replies) == {200}, replies[0].body


def test_many_callers_with_wrong_bodies_stop_nobody(target: HostileTarget) -> None:
    contents = [WRONG[name][0]() for name in ("wrong items", "wrong messages", "unknown overrides")]
    contents += [WRONG[name][0]() for name in ("nested lists",)]
    contents += [TOO_MANY["a long key"][0]()]
    contents += [second(run="r" * 30_000_000), second(**unknown(HUGE // 20))]
    contents += [overridden(stop_strings=["s"] * 10_000), second(prompt="p" * 200_001), second(**unknown(20_000))]

    with Witness(target) as witness:
        witness.repeat(*(lambda content=content: witness.post("/score", content) for content in contents))

    assert statuses(witness.replies) <= {413, 422, 429, 503}
