"""Does something grow? A line through what was measured after the first third, and what it rises until the end."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Growth", "fitted"]

_WARM_UP = 1 / 3
"""Share of the time that does not count: caches fill, and memory is taken once and for all."""


@dataclass(frozen=True)
class Growth:
    """The ends of the fitted line."""

    first: float
    """After the warm-up."""
    last: float

    @property
    def share(self) -> float:
        """The rise, as a share of the first value."""
        return self.last / self.first - 1


def fitted(samples: Sequence[tuple[float, float]]) -> Growth:
    """The line through `samples` (time, value), in order of time; at least three must lie after the warm-up.

    Raises:
        ValueError: there are too few.
    """
    start, end = samples[0][0], samples[-1][0]
    warm = start + (end - start) * _WARM_UP
    judged = [(at, value) for at, value in samples if at >= warm]
    if len(judged) < 3:
        raise ValueError(f"{len(judged)} samples after the warm-up are too few for a line")
    slope, intercept = statistics.linear_regression(*zip(*judged, strict=True))
    return Growth(intercept + slope * warm, intercept + slope * end)
