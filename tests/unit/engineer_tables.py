"""Made-up measured rows for the tests of `glassbox engineer`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reward_evidence.engineer.table import BoolArray, FloatArray, Table

BOUNDS = {
    "length_incentive": (0.0, 5.12),
    "repetition_penalty": (0.0, 1.0),
    "query_relevance": (0.0, 1.0),
    "content_density": (0.0, 1.0),
    "finished": (0.0, 1.0),
    "distraction": (0.0, 1.0),
    "signed": (-1.0, 1.0),
}


def features(n: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Values of the features in BOUNDS, of `n` rows."""
    return {
        "length_incentive": np.round(rng.gamma(2.0, 0.5, n), 2),
        "repetition_penalty": rng.beta(6, 1.5, n),
        "query_relevance": np.clip(rng.normal(0.35, 0.2, n), 0, 1),
        "content_density": rng.beta(4, 4, n),
        "finished": (rng.random(n) < 0.8).astype(np.float64),
        "distraction": rng.random(n),
        "signed": rng.uniform(-1, 1, n),
    }


def table(
    gold: FloatArray,
    values: Mapping[str, FloatArray],
    per_prompt: int,
    rewards: Mapping[str, FloatArray] | None = None,
    empty: BoolArray | None = None,
) -> Table:
    """A table of prompts with `per_prompt` responses each."""
    n = len(gold)
    return Table(
        prompt=np.arange(n, dtype=np.int64) // per_prompt,
        gold=gold,
        features=values,
        empty=np.zeros(n, bool) if empty is None else empty,
        rewards=rewards or {"longest": values["length_incentive"]},
        row=np.arange(n, dtype=np.int64),
    )
