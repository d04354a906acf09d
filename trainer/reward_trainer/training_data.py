"""Training data: hold prompts out, order the rest, write the rows that OpenRLHF reads.

[Prompt] ──▶ hold_out / check_overlap ──▶ training_order ──▶ training_row ──▶ data/train.jsonl
"""

import itertools
import json
import random
import re
from collections.abc import Sequence
from typing import Any

from reward_runs.errors import DataError
from reward_runs.prompts import Prompt, model_input

_MAX_REPORTED = 5


def hold_out(prompts: Sequence[Prompt], n: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """Split into (training, held-out): `n` prompts held out, at most a fifth; equal texts are on the same side."""
    n = min(n, len(prompts) // 5)
    if n == 0:
        raise DataError(
            f"{len(prompts)} prompts are too few to hold some out: provide at least 5, or use --heldout"
        )
    shuffled = random.Random(seed).sample(list(prompts), len(prompts))
    held_texts = {_normalised(prompt.prompt) for prompt in shuffled[:n]}
    heldout: dict[str, Prompt] = {}  # equal texts would count as independent prompts and make intervals too narrow
    for prompt in prompts:
        if (text := _normalised(prompt.prompt)) in held_texts:
            heldout.setdefault(text, prompt)
    training = [prompt for prompt in prompts if _normalised(prompt.prompt) not in held_texts]
    if not training:
        raise DataError("all prompts have the same text: none remains for training")
    return training, list(heldout.values())


def check_overlap(training: Sequence[Prompt], heldout: Sequence[Prompt]) -> None:
    """Raise DataError when a held-out prompt equals a training prompt, ignoring case, punctuation and spaces."""
    known = {_normalised(prompt.prompt): prompt.id for prompt in training}
    both = [(prompt.id, known[text]) for prompt in heldout if (text := _normalised(prompt.prompt)) in known]
    if both:
        pairs = ", ".join(f"{held!r} = {trained!r}" for held, trained in both[:_MAX_REPORTED])
        raise DataError(f"{len(both)} held-out prompts are also training prompts (held-out = training): {pairs}")


def _normalised(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def training_order(prompts: Sequence[Prompt], n: int, seed: int) -> list[Prompt]:
    """Return `n` prompts: consecutive passes over all prompts, each in a new random order."""
    rng = random.Random(seed)
    passes = (rng.sample(list(prompts), len(prompts)) for _ in itertools.count())
    return list(itertools.islice(itertools.chain.from_iterable(passes), n))


def label(prompt: Prompt) -> str:
    """Return the label that OpenRLHF sends to the reward service with each response: JSON."""
    return json.dumps(
        {"query_type": prompt.query_type.value, "reference": prompt.reference, "id": prompt.id}, ensure_ascii=False
    )


def training_row(prompt: Prompt, system_prompt: str | None, *, chat: bool) -> dict[str, Any]:
    """Return a row of OpenRLHF's dataset."""
    return {"input": model_input(prompt, system_prompt, chat=chat), "label": label(prompt)}
