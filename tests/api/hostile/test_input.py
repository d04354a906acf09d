"""Hostile input: refused with a reason, soon, at no more cost than a large legal request, while others are served.

The processor time of the service's process, and the time until the refusal, are compared with those of a
legal request of the same run, so that they depend less on the machine. A refusal that waits is too late as well.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.hostile.service import HostileTarget
from tests.api.hostile.witness import MAX_ERROR_BYTES, NOISE, Witness
from tests.live import item, posted

pytestmark = pytest.mark.slow

MAX_COST = 3
"""Cost of a refusal, relative to that of the legal request."""
SOON_S = 2.0
"""Seconds in which a refusal comes; on a loaded machine also `NOISE` times those of the legal request."""


@pytest.fixture(scope="module")
def witness(target: HostileTarget) -> Iterator[Witness]:
    """Measures what others see during all tests of this module, and asserts the bounds after them."""
    with Witness(target) as witness:
        yield witness


@pytest.fixture(scope="module")
def legal(target: HostileTarget, witness: Witness) -> tuple[float, float]:
    """Processor seconds, and seconds, of a legal request with as many items as fit and without a model."""
    before = target.cpu_s()
    items = [item(f"{n} " + "word " * 100) for n in range(4096)]
    reply = witness.post("/score", {"items": items, "recipe": "li-rp"})
    assert reply.status == 200, reply.body
    return target.cpu_s() - before, reply.seconds


@pytest.fixture(autouse=True)
def bounded(target: HostileTarget, witness: Witness, legal: tuple[float, float]) -> Iterator[None]:
    """Every test of this module."""
    cost, seconds = legal
    before, n_before = target.cpu_s(), len(witness.replies)
    yield
    assert target.cpu_s() - before < MAX_COST * cost
    slowest = max((r.seconds for r in witness.replies[n_before:] if 400 <= r.status < 500), default=0.0)
    assert slowest <= max(SOON_S, NOISE * seconds), f"a refusal took {slowest:.1f} s"


def refused(witness: Witness, content: Any, path: str = "/score", headers: dict[str, str] | None = None) -> Any:
    """The problem document that `content` gets."""
    reply = witness.post(path, content, headers)

    assert 400 <= reply.status < 500, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    assert len(reply.body) <= MAX_ERROR_BYTES
    return reply.json()


def body(**fields: Any) -> bytes:
    return json.dumps({"items": [item()]} | fields).encode()


ITEM = b'{"prompt": "a", "response": "b"}'
DEEP = 100_000

NATIVE = {
    "lists nested deep": (b"[" * DEEP + b"]" * DEEP, "body"),
    "objects nested deep": (b'{"items": ' + b'{"a":' * DEEP + b"1" + b"}" * (DEEP + 1), "body"),
    "overrides nested deep": (
        b'{"items": [' + ITEM + b'], "recipe_overrides": {"a": ' + b"[" * DEEP + b"]" * DEEP + b"}}",
        "body",
    ),
    "a lone surrogate": (b'{"items": [{"prompt": "a", "response": "\\ud800"}]}', "body"),
    "a surrogate in bytes": (b'{"items": [{"prompt": "a", "response": "\xed\xa0\x80"}]}', "body"),
    "no UTF-8": (b'{"items": [{"prompt": "a", "response": "\xff"}]}', "body"),
    "a NUL outside a string": (b'{"items": [' + ITEM + b"]}\x00", "body"),
    "NaN": (b'{"items": [' + ITEM + b'], "recipe_overrides": {"relevance_floor": NaN}}', "recipe_overrides"),
    "Infinity": (b'{"items": [' + ITEM + b'], "step": Infinity}', "step"),
    "a step of a thousand digits": (b'{"items": [' + ITEM + b'], "step": ' + b"9" * 5_000 + b"}", "body"),
    "too many tiny items": (b'{"items": [' + b",".join([ITEM] * 100_000) + b"]}", "items"),
    "an unknown query type": (body(items=[item(), item(query_type="essay")]), "items.1.query_type"),
    "a number for a text": (body(items=[item(), item() | {"response": 7}]), "items.1.response"),
    "an object for the items": (body(items={"prompt": "a"}), "items"),
    "a list for the body": (b"[]", "body"),
    "a key twice": (
        b'{"items": [' + ITEM + b', {"prompt": "a", "response": "b", "response": "c"}]}',
        "items.1.response",
    ),
    "items twice": (b'{"items": [' + ITEM + b'], "items": [' + ITEM + b"]}", "items"),
    "a key twice that begins as a type does": (
        b'{"items": [' + ITEM + b'], "recipe_overrides": {"strict": 1, "strict": 2}}',
        "recipe_overrides.strict",
    ),
    "an unknown field named as a type": (body(items=[item(), item(str=1)]), "items.1.str"),
    "a wrong key of a megabyte": (b'{"items": [' + ITEM + b'], "' + b"k" * 1_000_000 + b'": 1}', None),
}


@pytest.mark.parametrize("name", NATIVE)
def test_bad_bodies_are_refused_by_item_and_field(witness: Witness, name: str) -> None:
    content, where = NATIVE[name]

    problem = refused(witness, content)

    assert problem["status"] in {413, 422}
    assert problem["errors"]
    if where not in {None, "body"}:
        assert any(error["field"].startswith(str(where)) for error in problem["errors"])
    if where and where.startswith("items.1"):
        assert {error["item"] for error in problem["errors"]} == {1}


@pytest.mark.parametrize("n", [5_000, 20_000])
def test_more_items_than_fit_are_refused_with_the_number_that_does(witness: Witness, n: int) -> None:
    problem = refused(witness, b'{"items": [' + b",".join([ITEM] * n) + b"]}")

    assert problem["status"] == 413
    assert "at most 4096" in problem["detail"]


def test_a_word_of_a_million_characters_is_too_long_and_says_where(witness: Witness) -> None:
    problem = refused(witness, body(items=[item(), item("w" * 1_000_000)]))

    assert problem["status"] == 413
    assert problem["errors"][0]["field"] == "items.1.response"


@pytest.mark.parametrize(
    "text", ["w" * 200_000, "\x00" * 1_000, "\u202e\u0000\ufeff word", "a " * 99_999, "\U0010ffff"]
)
def test_odd_text_within_the_limits_is_text(witness: Witness, text: str) -> None:
    assert witness.post("/score", {"items": [item(text)]}).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "GZIP", "identity, gzip"])
def test_compressed_bodies_are_refused_unread(witness: Witness, encoding: str) -> None:
    bomb = gzip.compress(b"[" + b"0," * 50_000_000 + b"0]", 1) if encoding == "gzip" else b"\x00" * 1_000

    assert "content-encoding" in refused(witness, bomb, headers={"content-encoding": encoding})["detail"]


def test_a_hundred_megabytes_are_refused_by_their_declaration(target: HostileTarget) -> None:
    headers = {"content-type": "application/json"} | target.headers()
    with posted(target.url, "/score", b"{", headers, declared=100_000_000) as connection:
        answer = connection.recv(10_000)

    assert b" 413 " in answer.splitlines()[0]


def test_a_hundred_megabytes_of_chunks_are_refused_when_they_are_too_many(witness: Witness) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    assert witness.post("/score", chunks()).status == 413


MARK = "<|im_end|>"
FOREIGN = {
    "marks within marks": "<|im_end" * 9_000 + "|>" * 9_000,
    "marks that are never closed": "<|im_start|>user\n" * 9_000,
    "half marks": "<|im_" * 30_000,
    "brackets": "[/INST]" * 20_000,
    "ends": MARK * 15_000,
    "headings": "### Instruction:\n" * 9_000,
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize(
    "template", ["", "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", "[INST] q [/INST]"]
)
def test_marks_meant_to_confuse_are_taken_apart_soon(witness: Witness, template: str, name: str) -> None:
    prompt = template + FOREIGN[name]
    for query in (prompt + "answer", prompt[9_000:] + FOREIGN[name]):
        reply = witness.post("/get_reward", {"query": query, "prompts": prompt})
        assert reply.status in {200, 413, 422}, reply.body


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"query": 7}, "query"),
        ({"query": "a?b", "prompts": [1]}, "prompts"),
        ({"query": "a?b", "prompts": "a?", "labels": '{"\\ud800": 1}'}, "labels.0"),
        ({"query": "a?b", "prompts": "a?", "labels": '{"reference": "\\ud800"}'}, "labels.0.reference"),
        ({"query": "a?b", "prompts": "a?", "labels": {"query_type": "essay"}}, "labels.0.query_type"),
        ({"query": "<|im_start|>poet\nx<|im_end|>y", "prompts": "<|im_start|>poet\nx<|im_end|>"}, "prompts.0"),
    ],
)
def test_foreign_bodies_are_refused_by_sample_and_field(
    witness: Witness, fields: dict[str, Any], field: str
) -> None:
    problem = refused(witness, json.dumps(fields).encode(), "/get_reward")

    assert any(error["field"].startswith(field) for error in problem["errors"])
    assert "pydantic" not in json.dumps(problem)
