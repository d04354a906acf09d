"""How far each response moves from recipe A to recipe B, and which features move it. Exact and additive.

Rewards of two recipes have different scales, so a reward is standardised within its recipe and query type:

    z = (reward - mean over the responses to the prompt) / σ

σ is the standard deviation of the rewards within prompts, pooled over the prompts of one query type. It is one
number, so the exact parts of a reward (`explain: true`) are divided by it too, and the movement of a response is
the sum of the contributions of its features:

    movement = z_B - z_A = Σ contribution_f,  contribution_f = (part_B,f - mean part_B,f) / σ_B - the same of A

The share of a feature in the movements of all responses is Σ contribution_f · movement / Σ movement². The shares
sum to 1; a negative one means that the feature opposes the movements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from statistics import fmean

from reward_client.diff.judged import Group, Judged, Judgement
from reward_client.diff.ranks import comparable

Contributions = dict[str, float]
"""By feature name; their sum is the movement."""


def contributions(groups: Sequence[Group]) -> list[list[Contributions]]:
    """For each group, the contributions of features to the movement of each of its responses."""
    by_type: dict[str, list[Group]] = {}
    for group in groups:
        by_type.setdefault(group[0].query_type, []).append(group)
    scales = {
        query_type: (_deviation(found, attrgetter("a")), _deviation(found, attrgetter("b")))
        for query_type, found in by_type.items()
    }
    return [_of_group(group, *scales[group[0].query_type]) for group in groups]


def _of_group(group: Group, deviation_a: float, deviation_b: float) -> list[Contributions]:
    before = _centred([row.a.parts for row in group], deviation_a)
    after = _centred([row.b.parts for row in group], deviation_b)
    return [
        {name: new.get(name, 0.0) - old.get(name, 0.0) for name in {**old, **new}}
        for old, new in zip(before, after, strict=True)
    ]


def _centred(parts: Sequence[Mapping[str, float]], deviation: float) -> list[Contributions]:
    """The parts of each response minus their means over the group, over `deviation`; 0 where that is 0."""
    names = dict.fromkeys(name for one in parts for name in one)
    means = {name: fmean(one.get(name, 0.0) for one in parts) for name in names}
    factor = 1 / deviation if deviation > 0 else 0.0
    return [{name: (one.get(name, 0.0) - mean) * factor for name, mean in means.items()} for one in parts]


def _deviation(groups: Sequence[Group], judgement: Callable[[Judged], Judgement]) -> float:
    """The pooled standard deviation of the rewards within `groups`; 0 if each group has equal rewards only."""
    squares, degrees = 0.0, 0
    for group in groups:
        rewards = [judgement(row).reward for row in group]
        degrees += len(rewards) - 1
        if len(set(comparable(rewards))) > 1:
            mean = fmean(rewards)
            squares += math.fsum((reward - mean) ** 2 for reward in rewards)
    return math.sqrt(squares / degrees) if degrees else 0.0
