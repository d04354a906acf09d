"""Example prompts for which the recipes pick different responses, chosen by a fixed rule. Pure.

The largest differences in gold between two recipes' picks, and prompts evenly spaced among the others.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from reward_client.wire import QueryType, Reference
from reward_evidence.best_of_n.figures import JudgedSamples

N_LARGEST = 4
N_SPACED = 4


class Pick(BaseModel):
    """One response, and the judges that pick it among all samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    judges: list[str]
    sample: int
    response: str
    gold: float
    words: int
    truncated: bool | None


class Example(BaseModel):
    """One prompt and the picked responses, the highest gold first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_id: str
    query_type: QueryType
    prompt: str
    reference: Reference | None
    gap: float
    """Gold of the best minus that of the worst pick of a recipe."""
    rule: str
    picks: list[Pick]


def choose_examples(judged: JudgedSamples) -> list[Example]:
    """Choose among the prompts on whose best response the recipes disagree; of equal rewards the first counts."""
    picked = {name: rewards.argmax(axis=1) for name, (_, rewards) in judged.judges().items() if name != "random"}
    chosen = np.stack([picked[name] for name in judged.recipes], axis=1)  # (P, recipes)
    gold = np.take_along_axis(judged.gold, chosen, axis=1)
    gaps = gold.max(axis=1) - gold.min(axis=1)
    differ = [row for row in range(len(chosen)) if len(set(chosen[row])) > 1]
    largest = sorted(differ, key=lambda row: -gaps[row])[:N_LARGEST]
    others = [row for row in differ if row not in largest]
    n = min(N_SPACED, len(others))
    spaced = [others[(2 * i + 1) * len(others) // (2 * n)] for i in range(n)]
    rules: list[tuple[str, Sequence[int]]] = [("largest difference in gold", largest), ("evenly spaced", spaced)]
    return [
        _example(judged, row, {name: int(rows[row]) for name, rows in picked.items()}, float(gaps[row]), rule)
        for rule, found in rules
        for row in found
    ]


def _example(judged: JudgedSamples, row: int, picked: dict[str, int], gap: float, rule: str) -> Example:
    prompt, samples = judged.prompts[row], judged.samples[row]
    by_gold = sorted(set(picked.values()), key=lambda index: -judged.gold[row, index])
    return Example(
        prompt_id=prompt.id,
        query_type=prompt.query_type,
        prompt=prompt.prompt,
        reference=prompt.reference,
        gap=gap,
        rule=rule,
        picks=[
            Pick(
                judges=[name for name, pick in picked.items() if pick == index],
                sample=index,
                response=samples[index].response,
                gold=float(judged.gold[row, index]),
                words=int(judged.words[row, index]),
                truncated=samples[index].truncated,
            )
            for index in by_gold
        ],
    )
