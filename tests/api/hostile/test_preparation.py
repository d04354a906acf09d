"""Requests that take long to prepare: others are served meanwhile, and refusals come at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.hostile.service import HostileTarget
from tests.api.hostile.witness import Witness, statuses

pytestmark = pytest.mark.slow

WORDS = "seven words of an answer, or so. "


def items(n: int, response: str, **fields: Any) -> dict[str, Any]:
    """A `/score` request of `n` items whose texts differ, so that none is in the cache."""
    prompt = fields.pop("prompt", None)
    return {
        "items": [{"prompt": prompt or f"Why {i}?", "response": f"{i} {response}"} for i in range(n)],
        **fields,
    }


def openrlhf(n: int, response: str) -> dict[str, Any]:
    prompts = [f"Why {i}?" for i in range(n)]
    return {"query": [f"{prompt}{i} {response}" for i, prompt in enumerate(prompts)], "prompts": prompts}


ATTACKS = {
    "thousands of items": ("/score", items(4096, WORDS), 4),
    "long responses": ("/score", items(256, WORDS * 220), 6),
    "OpenRLHF with long responses": ("/get_reward", openrlhf(256, WORDS * 220), 4),
    "OpenRLHF with thousands of samples": ("/get_reward", openrlhf(4096, WORDS), 4),
    "the longest responses": ("/score", items(16, (WORDS * 6200)[:199_000]), 4),
    "long responses of which one is wrong": (
        "/score",
        {"items": [*items(255, WORDS * 220)["items"], {"prompt": "", "response": "x"}]},
        4,
    ),
    "conversations": ("/score", items(20, WORDS, prompt=[{"role": "user", "content": WORDS * 25}] * 190), 16),
    "few different words": ("/score", items(8, "a a b " * 30_000), 8),
    "more stop strings than fit": (
        "/score",
        items(1, "ab " * 60_000, recipe_overrides={"stop_strings": [f"stop string {i}" for i in range(10_000)]}),
        7,
    ),
    "many stop strings": (
        "/score",
        items(8, "x" * 190_000, recipe_overrides={"stop_strings": [f"stop {i}" for i in range(60)]}),
        4,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_others_are_served_while_a_caller_keeps_preparation_busy(target: HostileTarget, attack: str) -> None:
    path, body, workers = ATTACKS[attack]

    with Witness(target) as witness:
        witness.repeat(lambda: witness.post(path, body, {"glassbox-deadline-s": "5"}), workers=workers)

    assert statuses(witness.replies) <= {200, 413, 422, 429, 503, 504}
