"""The work that benchmarks do: prompts of our own, responses of real lengths, built the same way every time."""

from __future__ import annotations

import random

from reward_client import Item
from reward_client.wire import ChatMessage
from reward_service.whitebox.text import (  # the texts that the encoder is given
    DEFAULT_STOP_STRINGS,
    clean_response,
    prompt_text,
)
from reward_trainer.prompts import load_embedded

N_PROMPTS, N_RESPONSES = 32, 8
LENGTHS = (12, 25, 40, 60, 80, 110, 150, 220)
"""Words of the eight responses to each prompt: about what a policy at 16 to 300 new tokens writes."""


def make_items(seed: int = 7) -> list[Item]:
    """32 prompts × 8 responses; responses are made of sentences of the references, shuffled."""
    draw = random.Random(seed)
    rows = load_embedded("train")
    words = " ".join(row.reference for row in rows if row.reference).split()
    items = []
    for row in rows[:N_PROMPTS]:
        for length in LENGTHS:
            start = draw.randrange(len(words) - length)
            items.append(Item(prompt=row.prompt, response=" ".join(words[start : start + length])))
    return items


def unique_texts(items: list[Item]) -> list[str]:
    """What the encoder reads for `items`, each text once."""
    texts = {prompt_text([ChatMessage(role="user", content=str(item.prompt))]) for item in items}
    return [*texts, *{clean_response(item.response, DEFAULT_STOP_STRINGS) for item in items}]


ITEMS = make_items()
