"""Which responses a report shows: by a rule stated beforehand, not by taste. Pure.

The largest gains and losses of the prompt's mean score (gold, or proxy where gold was not measured), then prompts
evenly spaced in the held-out file, whatever became of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.statistics.monotonicity import average_by_prompt

__all__ = ["N_EXTREME", "N_SPACED", "Excerpt", "ExcerptGroup", "choose_excerpts"]

N_EXTREME = 3
N_SPACED = 4


@dataclass(frozen=True)
class Excerpt:
    """One prompt, answered by the first checkpoint and by the last (the first sample of each)."""

    first: EvaluatedResponse
    last: EvaluatedResponse
    change: float
    """Of the mean over the prompt's samples."""


@dataclass(frozen=True)
class ExcerptGroup:
    """Excerpts chosen by one rule."""

    title: str
    excerpts: list[Excerpt]


def choose_excerpts(first: Sequence[EvaluatedResponse], last: Sequence[EvaluatedResponse]) -> list[ExcerptGroup]:
    """Choose from the responses of the first and the last checkpoint to the same prompts."""
    score = "gold" if all(response.gold_reward is not None for response in [*first, *last]) else "proxy"
    pairs = _pairs(first, last, score)
    ranked = sorted(pairs, key=lambda pair: pair.change)
    losses = [pair for pair in ranked[:N_EXTREME] if pair.change < 0]
    gains = [pair for pair in ranked[: -N_EXTREME - 1 : -1] if pair.change > 0]
    shown = {pair.first.prompt_id for pair in [*losses, *gains]}
    groups = [
        ExcerptGroup(f"Largest gains in {score} reward", gains),
        ExcerptGroup(f"Largest losses in {score} reward", losses),
        ExcerptGroup("Evenly spaced in the held-out prompts", _spaced(pairs, shown)),
    ]
    return [group for group in groups if group.excerpts]


def _pairs(first: Sequence[EvaluatedResponse], last: Sequence[EvaluatedResponse], score: str) -> list[Excerpt]:
    before, after = _first_samples(first), _first_samples(last)
    changes = _scores(last, score) - _scores(first, score)
    return [
        Excerpt(before[prompt_id], after[prompt_id], float(change))
        for prompt_id, change in zip(before, changes, strict=True)
    ]


def _first_samples(responses: Sequence[EvaluatedResponse]) -> dict[str, EvaluatedResponse]:
    return {response.prompt_id: response for response in responses if response.sample == 0}


def _scores(responses: Sequence[EvaluatedResponse], score: str) -> NDArray[np.float64]:
    values = [r.gold_reward if score == "gold" else r.proxy_reward for r in responses]
    return average_by_prompt([r.prompt_id for r in responses], [v for v in values if v is not None])


def _spaced(pairs: Sequence[Excerpt], shown: set[str]) -> list[Excerpt]:
    left = [pair for pair in pairs if pair.first.prompt_id not in shown]
    n = min(N_SPACED, len(left))
    return [left[(2 * i + 1) * len(left) // (2 * n)] for i in range(n)]
