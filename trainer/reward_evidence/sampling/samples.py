"""What a checkpoint's answers are, and how they are drawn: types and seeds, without torch.

Randomness: the prompts go through the model in fixed batches, in the order of the file. Before each batch torch's
generator is seeded with a number made of (seed, sample, batch), the same for every checkpoint. So one checkpoint
gives the same responses whenever it is evaluated on the same machine; two checkpoints sample with common random
numbers until a response of the batch ends, and with unrelated ones after that. Figures are paired by prompt, never
by random number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from reward_runs.prompts import Prompt
from reward_runs.run_reader import Checkpoint

__all__ = ["Divergence", "Progress", "Sample", "Sampler", "SamplingSettings", "batch_seed", "even_batches"]

Progress = Callable[[int, int], None]
"""Called with the number of responses done and the number of all."""


@dataclass(frozen=True)
class SamplingSettings:
    """How responses are drawn."""

    samples: int
    """Responses to each prompt."""
    temperature: float
    max_new_tokens: int
    seed: int
    batch_size: int
    """Prompts answered at once, at most. Part of the settings, because the random numbers depend on it."""
    system_prompt: str | None
    apply_chat_template: bool
    kl: bool
    """Whether to measure the divergence from the start policy."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Estimates of KL(policy ‖ start) from one response, in nats; `divergence` says how."""

    exact: float
    k1: float


@dataclass(frozen=True)
class Sample:
    """One response, before it is scored."""

    prompt: Prompt
    sample: int
    seed: int
    response: str
    n_tokens: int
    truncated: bool
    divergence: Divergence | None


class Sampler(Protocol):
    """Lets a checkpoint answer prompts."""

    def respond(self, checkpoint: Checkpoint, prompts: Sequence[Prompt], progress: Progress) -> list[Sample]:
        """Return every sample of every prompt: sample by sample, prompts in order."""
        ...


def batch_seed(seed: int, sample: int, batch: int) -> int:
    """Mix the seed of an evaluation with the indices of a sample and a batch: neighbours share nothing."""
    return int(np.random.SeedSequence([seed, sample, batch]).generate_state(1)[0])


def even_batches(n: int, limit: int) -> list[slice]:
    """Cut `n` prompts into as few batches of up to `limit` as will do, all about equally large."""
    n_batches = math.ceil(n / limit)
    bounds = [n * i // n_batches for i in range(n_batches + 1)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]
