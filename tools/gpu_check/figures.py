"""Figures are written as they are measured, so that an interrupted step still reports some.

step ──note()──▶ STEP.jsonl ──read()──▶ gpu-check.json ──▶ table
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str = ""
    note: str = ""
    kept: bool | None = None
    """Whether it is within its bound, for figures that have one."""

    @property
    def row(self) -> str:
        """The figure as text."""
        bar = {None: "", True: "ok", False: "OUT OF BAR"}[self.kept]
        return f"  {self.name:<66} {number(self.value):>11} {self.unit:<10} {bar:<10} {self.note}".rstrip()


def number(value: float) -> str:
    """`value` with four digits."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


class Figures:
    """The file of a step's figures."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.broken: list[str] = []
        """Names of the figures that are outside their bound."""

    def note(self, name: str, value: float, unit: str = "", note: str = "", kept: bool | None = None) -> None:
        """Write a figure at once. Raises ValueError unless `value` is finite."""
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
        if kept is False:
            self.broken.append(name)
        figure = Figure(name, float(value), unit, note, kept)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figure)) + "\n")

    @staticmethod
    def read(path: Path) -> list[Figure]:
        """The figures that a step has written so far; an incomplete last line is ignored."""
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [Figure(**json.loads(line)) for line in lines]


@dataclass
class Outcome:
    """One step and its result."""

    name: str
    what: str
    status: str = "not run"
    """`ok`, `failed`, `timed out` or `not run`."""
    reason: str = "its turn did not come"
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)


@dataclass
class Report:
    """The content of `gpu-check.json`."""

    machine: dict[str, str]
    steps: list[Outcome]
    notes: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Replace the file atomically."""
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        beside.replace(path)

    @property
    def table(self) -> str:
        """The report as text."""
        lines = [f"{name:<14} {value}" for name, value in self.machine.items()] + self.notes
        for step in self.steps:
            said = f"{step.name}: {step.status}, {step.seconds:.0f} s. {step.what}"
            lines += [
                "",
                said,
                *(f"  {line}" for line in step.reason.splitlines()),
                *(f.row for f in step.figures),
            ]
        return "\n".join(lines)
