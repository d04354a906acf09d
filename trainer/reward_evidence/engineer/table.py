"""Measured rows as arrays. N rows, G prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """Rows in which the responses to one prompt are neighbours."""

    prompt: IntArray
    """(N,): index of the prompt, ascending, without gaps."""
    gold: FloatArray
    """(N,): finite."""
    features: Mapping[str, FloatArray]
    """By name, (N,): NaN where the feature does not apply."""
    empty: BoolArray
    """(N,): whether the response is empty, so that a recipe gives it 0."""
    rewards: Mapping[str, FloatArray]
    """Rewards of the recipes that are compared, by name, (N,)."""
    row: IntArray
    """(N,): index of the row in the input."""

    def __len__(self) -> int:
        return len(self.gold)

    @property
    def n_prompts(self) -> int:
        """G."""
        return int(self.prompt[-1]) + 1 if len(self) else 0

    def take(self, rows: BoolArray) -> Table:
        """The rows of a mask (N,), with prompts counted anew."""
        return Table(
            prompt=np.unique(self.prompt[rows], return_inverse=True)[1].astype(np.int64),
            gold=self.gold[rows],
            features={name: values[rows] for name, values in self.features.items()},
            empty=self.empty[rows],
            rewards={name: values[rows] for name, values in self.rewards.items()},
            row=self.row[rows],
        )
