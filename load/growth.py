"""Estimate growth over time: a line fitted to the samples after the first third, and its rise until the end."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Growth", "fit"]

_WARM_UP = 1 / 3
"""Share of the time that is left out: caches fill, and memory is allocated once."""


@dataclass(frozen=True)
class Growth:
    """The two ends of the fitted line."""

    first: float
    """Value at the end of the warm-up."""
    last: float

    @property
    def share(self) -> float:
        """The rise, as a share of the first value."""
        return self.last / self.first - 1


def fit(samples: Sequence[tuple[float, float]]) -> Growth:
    """Fit a line to `samples` of (time, value), in order of time; at least three must follow the warm-up.

    Raises:
        ValueError: fewer than three do.
    """
    start, end = samples[0][0], samples[-1][0]
    warm = start + (end - start) * _WARM_UP
    used = [(at, value) for at, value in samples if at >= warm]
    if len(used) < 3:
        raise ValueError(f"{len(used)} samples after the warm-up are too few for a line")
    slope, intercept = statistics.linear_regression(*zip(*used, strict=True))
    return Growth(intercept + slope * warm, intercept + slope * end)
