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
    seconds: float = 600.0
    """Seconds of hostile load."""
    seed: int = 0
    """Of the hostile client."""
    baseline: Path | None = None
    """Another checkout of the project, whose speed is measured too."""

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
    def hostile_s(self) -> float:
        return 20.0 if self.short else self.seconds

    @property
    def quiet_s(self) -> float:
        """Seconds for which the honest clients are measured without a hostile one."""
        return 8.0 if self.short else 60.0

    @property
    def callers_s(self) -> float:
        """Seconds of each phase of the scenario with two callers."""
        return 4.0 if self.short else 25.0

    @property
    def callers_rounds(self) -> int:
        """Rounds of the scenario with two callers."""
        return 1 if self.short else 4

    @property
    def form(self) -> str:
        """The form of the run, for the results."""
        return "short run" if self.short else "full run"
