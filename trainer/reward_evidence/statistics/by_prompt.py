"""Responses of a checkpoint → one value per prompt. Pure."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.statistics.monotonicity import average_by_prompt

Responses = Sequence[EvaluatedResponse]
Measure = Callable[[EvaluatedResponse], float | None]

_WORD = re.compile(r"\w+|[^\w\s]+")


def count_words(text: str) -> int:
    """Count words as the paper does: sequences of word characters, and of other visible characters."""
    return len(_WORD.findall(text))


def n_words(response: EvaluatedResponse) -> int:
    """Words of a response."""
    return count_words(response.response)


def values_by_prompt(responses: Responses, measure: Measure) -> NDArray[np.float64]:
    """Average `measure` over the samples of each prompt: (N,), for prompts that have it, in order of their ids."""
    measured = [(response.prompt_id, measure(response)) for response in responses]
    present = sorted((prompt_id, value) for prompt_id, value in measured if value is not None)
    return average_by_prompt([prompt_id for prompt_id, _ in present], [value for _, value in present])


def samples_by_prompt(responses: Responses) -> dict[str, list[EvaluatedResponse]]:
    """The responses to each prompt, in order of the prompts' ids."""
    found: dict[str, list[EvaluatedResponse]] = {}
    for response in sorted(responses, key=lambda r: r.prompt_id):
        found.setdefault(response.prompt_id, []).append(response)
    return found
