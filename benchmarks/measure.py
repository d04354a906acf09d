"""Ratios within one run: the sides take turns for several rounds; median and range."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["ROUNDS", "Figure", "NotMeasured", "Timings", "in_turn", "seconds", "with_note"]

ROUNDS = 5


@dataclass(frozen=True)
class Figure:
    """One line of the results."""

    name: str
    values: list[float]
    target: str = "reported"
    unit: str = ""
    note: str = ""

    @property
    def row(self) -> str:
        """As a row of a Markdown table."""
        low, middle, high = min(self.values), statistics.median(self.values), max(self.values)
        cells = self.name, self.target, f"**{middle:.2f}{self.unit}**", f"{low:.2f} – {high:.2f}", self.note
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class NotMeasured:
    """A line of the results without a number."""

    name: str
    target: str
    reason: str

    @property
    def row(self) -> str:
        """As a row of the same Markdown table as `Figure.row`."""
        reason = " ".join(self.reason.split()).replace("|", "/")
        return f"| {self.name} | {self.target} | *not measured* | – | {reason} |"


@dataclass(frozen=True)
class Timings:
    """Seconds that each side took, by round."""

    seconds: dict[str, list[float]]

    def ratio(self, name: str, fast: str, slow: str, target: str = "reported") -> Figure:
        """Speed of `fast` divided by speed of `slow`, by round."""
        pairs = list(zip(self.seconds[fast], self.seconds[slow], strict=True))
        note = " against ".join(f"{statistics.median(side):.2f} s" for side in zip(*pairs, strict=True))
        return Figure(name, [b / a for a, b in pairs], target, note=note)


def with_note(figure: Figure, note: str) -> Figure:
    """`figure` with `note` after its own."""
    return replace(figure, note=f"{figure.note}; {note}")


def seconds(action: Callable[[], object]) -> float:
    """How long `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def in_turn(warm_up: bool = True, rounds: int = ROUNDS, **sides: Callable[[], object]) -> Timings:
    """Time each side once per round; with `warm_up`, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for count in range(-1 if warm_up else 0, rounds):
        for name, action in sides.items():
            took = seconds(action)
            sys.stderr.write(f"round {count}: {name} {took:.2f} s\n")
            if count >= 0:
                taken[name].append(took)
    return Timings(taken)
