"""A sampled response, and how samples are drawn: types and seeds, without torch.

Random numbers: the prompts are processed in fixed batches, in the order of the file. Before each batch torch's
generator is seeded with a number derived from (seed, sample, batch), the same for every checkpoint. One checkpoint
therefore gives the same responses whenever it is evaluated on the same machine. Two checkpoints use common random
numbers until a response of the batch ends, and independent ones afterwards. Figures are paired by prompt, never by
random number.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from reward_runs.prompts import Prompt

Progress = Callable[[int, int], None]
"""Called with the number of finished responses and the number of all."""


@dataclass(frozen=True)
class SamplingSettings:
    """How responses are sampled."""

    samples: int
    """Responses per prompt."""
    temperature: float
    max_new_tokens: int
    seed: int
    batch_size: int
    """Maximum prompts per batch. One of the settings, because the random numbers depend on it."""
    system_prompt: str | None
    apply_chat_template: bool
    kl: bool
    """Whether to measure the divergence from the initial policy."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Estimates of KL(policy ‖ initial policy) from one response, in nats; see `statistics.kl`."""

    exact: float
    k1: float


@dataclass(frozen=True)
class Sample:
    """One response before scoring; None where a value is unknown, as for a recorded response."""

    prompt: Prompt
    sample: int
    """Index among the responses to the prompt, from 0."""
    response: str
    seed: int | None = None
    n_tokens: int | None = None
    truncated: bool | None = None
    divergence: Divergence | None = None


class Sampler(Protocol):
    """Provides the responses of a step."""

    def respond(self, step: int, prompts: Sequence[Prompt], progress: Progress) -> list[Sample]:
        """Return every sample of every prompt."""
        ...


def batch_seed(seed: int, sample: int, batch: int) -> int:
    """Mix the seed of an evaluation with the indices of a sample and a batch, without correlated neighbours."""
    return int(np.random.SeedSequence([seed, sample, batch]).generate_state(1)[0])


def even_batches(n: int, limit: int) -> list[slice]:
    """Split `n` prompts into the smallest number of batches of at most `limit`, of about equal sizes."""
    n_batches = math.ceil(n / limit)
    bounds = [n * i // n_batches for i in range(n_batches + 1)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]
