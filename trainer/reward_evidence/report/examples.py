"""Example responses in the report, chosen by a fixed rule. Pure.

The largest gains and losses in the mean score of a prompt (gold, or proxy if gold was not measured), and prompts
that are evenly spaced in the prompts file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.statistics.monotonicity import average_by_prompt

N_EXTREME = 3
N_SPACED = 4


@dataclass(frozen=True)
class Example:
    """The responses of the first and the last checkpoint to one prompt (the first sample of each)."""

    first: EvaluatedResponse
    last: EvaluatedResponse
    change: float
    """Change of the mean score over the samples of the prompt."""


@dataclass(frozen=True)
class ExampleGroup:
    """Examples chosen by one rule."""

    title: str
    examples: list[Example]


def choose_examples(first: Sequence[EvaluatedResponse], last: Sequence[EvaluatedResponse]) -> list[ExampleGroup]:
    """Choose from the responses of the first and the last checkpoint to the same prompts."""
    score = "gold" if all(response.gold_reward is not None for response in [*first, *last]) else "proxy"
    before, after = _first_samples(first), _first_samples(last)
    changes = _scores(last, score) - _scores(first, score)
    pairs = [
        Example(before[prompt_id], after[prompt_id], float(change))
        for prompt_id, change in zip(before, changes, strict=True)
    ]
    ranked = sorted(pairs, key=lambda pair: pair.change)
    losses = [pair for pair in ranked[:N_EXTREME] if pair.change < 0]
    gains = [pair for pair in ranked[: -N_EXTREME - 1 : -1] if pair.change > 0]
    shown = {pair.first.prompt_id for pair in [*losses, *gains]}
    others = [pair for pair in pairs if pair.first.prompt_id not in shown]
    n = min(N_SPACED, len(others))
    spaced = [others[(2 * i + 1) * len(others) // (2 * n)] for i in range(n)]
    groups = [
        ExampleGroup(f"Largest gains in {score} reward", gains),
        ExampleGroup(f"Largest losses in {score} reward", losses),
        ExampleGroup("Evenly spaced prompts", spaced),
    ]
    return [group for group in groups if group.examples]


def _first_samples(responses: Sequence[EvaluatedResponse]) -> dict[str, EvaluatedResponse]:
    return {response.prompt_id: response for response in responses if response.sample == 0}


def _scores(responses: Sequence[EvaluatedResponse], score: str) -> NDArray[np.float64]:
    values = [r.gold_reward if score == "gold" else r.proxy_reward for r in responses]
    return average_by_prompt([r.prompt_id for r in responses], [v for v in values if v is not None])
