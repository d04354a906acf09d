"""Items to score, the same in every run: real prompts, and responses of real lengths.

The texts come from public data in a folder beside the checkout (`_SHARED`), or else from the prompts and
references that ship with the trainer.
"""

from __future__ import annotations

import gzip
import json
import random
from functools import cache
from pathlib import Path

from reward_client import Item
from reward_client.wire import ChatMessage
from reward_runs.prompts import load_embedded
from reward_service.features.text import prompt_text

__all__ = ["SOURCE", "groups", "many", "of_tokens", "pairs", "unique_texts"]

_SHARED = Path(__file__).parents[2] / "shared" / "data"
PREFERENCES = _SHARED / "preferences" / "test.jsonl.gz"
"""3,513 human prompts, many with several turns, each with two responses."""
ALPACAFARM = _SHARED / "alpacafarm_val.json"
"""2,000 short prompts, each with one response."""

SOURCE = "preference data, alpacafarm_val" if PREFERENCES.is_file() else "prompts and references of the trainer"


@cache
def _texts() -> tuple[list[str], list[str]]:
    """Prompts and responses."""
    if PREFERENCES.is_file():
        with gzip.open(PREFERENCES, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [row["prompt"] for row in rows], [row[side] for row in rows for side in ("chosen", "rejected")]
    embedded = load_embedded("train")
    return [row.prompt for row in embedded], [row.reference for row in embedded if isinstance(row.reference, str)]


def many() -> list[Item]:
    """The second set: 2,000 prompts with one response each."""
    if not ALPACAFARM.is_file():
        return groups(2000, 1, seed=11)
    rows = json.loads(ALPACAFARM.read_text(encoding="utf-8"))
    return [Item(prompt=row["input"], response=row["output"]) for row in rows]


def groups(n_prompts: int, n_responses: int, seed: int = 7) -> list[Item]:
    """`n_prompts` × `n_responses` items, as in training with several responses per prompt.

    The responses belong to other prompts; the cost of an item does not depend on its meaning.
    """
    rng = random.Random(seed)
    prompts, responses = _texts()
    chosen = rng.sample(prompts, n_prompts) if n_prompts <= len(prompts) else rng.choices(prompts, k=n_prompts)
    fresh = iter(rng.sample(responses, len(responses)) * (1 + n_prompts * n_responses // len(responses)))
    return [
        Item(prompt=prompt, response=f"{next(fresh)} ({seed})") for prompt in chosen for _ in range(n_responses)
    ]


def of_tokens(n_items: int, n_tokens: int) -> list[Item]:
    """Items whose responses have about `n_tokens` tokens, all different."""
    rng = random.Random(n_tokens)
    words = " ".join(_texts()[1]).split()
    n_words = max(1, n_tokens * 3 // 4)
    words *= 1 + 2 * n_words // len(words)  # the embedded texts are fewer than those of the data sets
    items = []
    for i in range(n_items):
        start = rng.randrange(len(words) - n_words)
        items.append(Item(prompt=f"Question {i}?", response=" ".join(words[start : start + n_words])))
    return items


def pairs(items: list[Item]) -> list[tuple[str, str]]:
    """The texts that the encoder reads in the recipe `rer-reference`: prompt text and response of each item."""
    return [(prompt_text([ChatMessage(role="user", content=str(i.prompt))]), i.response) for i in items]


def unique_texts(items: list[Item]) -> list[str]:
    """The texts of `pairs`, without duplicates."""
    return list(dict.fromkeys(text for pair in pairs(items) for text in pair))
