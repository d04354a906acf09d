"""Sizes of the load scenarios: the full run, and the short run of a few minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Sizes of all scenarios."""

    folder: Path
    """Temporary folder for logs and configurations."""
    short: bool = False
    minutes: float = 30.0
    """Minutes of mixed load."""

    @property
    def max_posts(self) -> int:
        return 200 if self.short else 4096

    @property
    def measure_s(self) -> float:
        """Seconds for which the throughput of an unloaded service is measured."""
        return 4.0 if self.short else 20.0

    @property
    def overload_s(self) -> float:
        return 6.0 if self.short else 60.0

    @property
    def n_kills(self) -> int:
        """Kills with each signal, for each target."""
        return 2 if self.short else 20

    @property
    def mixed_s(self) -> float:
        return 60.0 if self.short else 60.0 * self.minutes

    @property
    def form(self) -> str:
        """The form of the run, for the results."""
        return "short run" if self.short else "full run"
