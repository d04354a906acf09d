"""How large a run is: the full one, or the short one that shows in a few minutes that the harness works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Sizes of the scenarios, all bounded."""

    folder: Path
    """For logs and configurations, gone after the run."""
    short: bool = False
    minutes: float = 30.0
    """Minutes of mixed load."""

    @property
    def max_posts(self) -> int:
        return 200 if self.short else 4096

    @property
    def measure_s(self) -> float:
        """Seconds in which the speed of an unloaded service is measured."""
        return 4.0 if self.short else 20.0

    @property
    def overload_s(self) -> float:
        return 6.0 if self.short else 60.0

    @property
    def n_kills(self) -> int:
        """Of each signal, for each target."""
        return 2 if self.short else 20

    @property
    def mixed_s(self) -> float:
        return 60.0 if self.short else 60.0 * self.minutes

    @property
    def form(self) -> str:
        """For the results."""
        return "short form" if self.short else "full form"
