"""Texts for the steps: prompts and responses of the trainer, as many as needed, all different."""

from __future__ import annotations

import random
from collections.abc import Sequence

from reward_client import Item
from reward_client.wire import ChatMessage
from reward_runs.prompts import load_embedded
from reward_service.batching import BatchLimits, BatchQueue, Unit
from reward_service.models.protocols import Exchange, Tokens

RESPONSES_EACH = 8
"""Responses to one prompt, as a policy samples them."""


def items(n: int, seed: int, words: int = 120) -> list[Item]:
    """`n` items, eight for each prompt; responses of up to `words` words."""
    draw = random.Random(seed)
    rows = load_embedded("train")
    pool = " ".join(row.reference if isinstance(row.reference, str) else row.prompt for row in rows).split()
    made = []
    for i in range(n):
        prompt = f"{rows[(i // RESPONSES_EACH) % len(rows)].prompt} ({seed}.{i // RESPONSES_EACH})"
        start, length = draw.randrange(len(pool) - words), draw.randint(words // 8, words)
        made.append(Item(prompt=prompt, response=f"{' '.join(pool[start : start + length])} {seed}.{i}"))
    return made


def unique_texts(of: Sequence[Item]) -> list[str]:
    """The texts that the encoder reads, without duplicates."""
    return list(dict.fromkeys(text for item in of for text in (str(item.prompt), item.response)))


def exchanges(of: Sequence[Item]) -> list[Exchange]:
    """The exchanges that a gold model scores."""
    return [Exchange((ChatMessage(role="user", content=str(item.prompt)),), item.response) for item in of]


def batches(tokens: Sequence[Tokens], limits: BatchLimits) -> list[list[Tokens]]:
    """The batches that the service's queue forms when all texts are queued at once."""
    queue: BatchQueue[Tokens, float] = BatchQueue()
    queue.add(queue.new_submission(len(tokens)), [Unit(i, row, len(row)) for i, row in enumerate(tokens)])
    formed = []
    while batch := queue.take(limits):
        formed.append([entry.unit.value for entry in batch])
    return formed
