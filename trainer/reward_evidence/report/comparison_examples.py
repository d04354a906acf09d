"""Prompts with the responses of every group side by side, chosen by a fixed rule. Pure.

The prompts on which the groups' final gold differs most, and prompts that are evenly spaced in the order of their
ids. The responses are those of each group's first run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reward_evidence.comparison.measures import GroupValues
from reward_evidence.evaluation.store import EvaluatedResponse

N_EXTREME = 4
N_SPACED = 4


@dataclass(frozen=True)
class SideBySide:
    """One prompt, and a response of each group by its label."""

    prompt: EvaluatedResponse
    responses: Mapping[str, EvaluatedResponse]
    spread: float | None
    """Largest minus smallest mean gold of the groups; None without gold."""


def side_by_side(values: Sequence[GroupValues]) -> dict[str, list[SideBySide]]:
    """Title → prompts with the last responses of each group's first run."""
    ids = values[0].prompt_ids
    gold = [one.measures["gold"][:, -1].mean(axis=0) for one in values if "gold" in one.measures]
    spread = np.ptp(gold, axis=0).tolist() if len(gold) == len(values) > 1 else []  # (N,)
    spreads = dict(zip(ids, spread, strict=bool(spread)))
    ranked = sorted(ids, key=lambda one: -spreads.get(one, 0.0))
    extreme = ranked[:N_EXTREME] if spreads else []
    others = [one for one in ids if one not in extreme]
    n = min(N_SPACED, len(others))
    spaced = [others[(2 * i + 1) * len(others) // (2 * n)] for i in range(n)]
    found = {"Largest differences in gold": extreme, "Evenly spaced prompts": spaced}
    return {
        title: [_shown(values, prompt_id, spreads.get(prompt_id)) for prompt_id in chosen]
        for title, chosen in found.items()
        if chosen
    }


def _shown(values: Sequence[GroupValues], prompt_id: str, spread: float | None) -> SideBySide:
    responses = {one.label: one.examples[prompt_id] for one in values}
    return SideBySide(next(iter(responses.values())), responses, spread)
