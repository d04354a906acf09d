"""Pairs of responses to one prompt that gold ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reward_evidence.engineer.table import BoolArray, FloatArray, IntArray

MAX_PAIRS = 10_000
"""Pairs of a table, about; with more, as many are drawn for each prompt. One a prompt is kept."""
_ENUMERATED = 128
"""Responses of a prompt up to which its pairs are enumerated; of more, random ones are drawn."""


@dataclass(frozen=True)
class Pairs:
    """P pairs; those of a prompt are neighbours."""

    better: IntArray
    """(P,): the row that gold prefers."""
    worse: IntArray
    """(P,)"""
    prompt: IntArray
    """(P,): index of the prompt."""
    weight: FloatArray
    """(P,): every prompt has the same weight; the sum is 1."""

    def __len__(self) -> int:
        return len(self.better)

    def take(self, chosen: BoolArray) -> Pairs:
        """The pairs of a mask (P,)."""
        weight = self.weight[chosen]
        total = weight.sum() or 1.0
        return Pairs(self.better[chosen], self.worse[chosen], self.prompt[chosen], weight / total)


def used_rows(pairs: Pairs, n_rows: int) -> tuple[BoolArray, Pairs]:
    """A mask of the rows (N,) that occur in a pair, and the pairs with indices among these rows."""
    used = np.zeros(n_rows, bool)
    used[pairs.better] = used[pairs.worse] = True
    place = np.cumsum(used) - 1
    return used, Pairs(place[pairs.better], place[pairs.worse], pairs.prompt, pairs.weight)


def pairs_of(prompt: IntArray, gold: FloatArray, seed: int, most: int = MAX_PAIRS) -> Pairs:
    """The pairs with different gold scores of a table's rows; see `Table`."""
    rng = np.random.default_rng(seed)
    starts = np.flatnonzero(np.diff(prompt, prepend=-1))
    ends = np.append(starts[1:], len(prompt))
    cap = max(1, most // max(1, len(starts)))
    found = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        first, second = _ordered(gold, start, end, cap, rng)
        if len(first) > cap:
            chosen = np.sort(rng.choice(len(first), cap, replace=False))
            first, second = first[chosen], second[chosen]
        found.append((first, second))
    better = np.concatenate([first for first, _ in found]) if found else np.empty(0, np.int64)
    worse = np.concatenate([second for _, second in found]) if found else np.empty(0, np.int64)
    of = prompt[better]
    counts = np.bincount(of, minlength=1)
    weight = 1.0 / (counts[of] * max(1, np.count_nonzero(counts)))
    return Pairs(better, worse, of, weight)


def _ordered(
    gold: FloatArray, start: int, end: int, cap: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    n = end - start
    if n <= _ENUMERATED:
        first, second = np.triu_indices(n, 1)
    else:
        first, second = rng.integers(0, n, (2, 4 * cap))
    first, second = first.astype(np.int64) + start, second.astype(np.int64) + start
    differ = gold[first] != gold[second]
    first, second = first[differ], second[differ]
    swap = gold[first] < gold[second]
    return np.where(swap, second, first), np.where(swap, first, second)
