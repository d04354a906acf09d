"""The findings of a scenario as tables, and the file that keeps the last findings of each scenario.

Findings       checks: a requirement, what was measured, whether it is met; figures: measured without a requirement
Results(path)  one section per scenario; a new run replaces its own sections and keeps the others
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Check", "Figure", "Findings", "Results", "exit_status"]

_HEAD = """\
# Load test results

Written by `make load`: real services and real clients under load, kills and overload for minutes. Each section has
the measurements of the last run of its scenario, and whether its requirements were met. The modules in `load/`
describe the scenarios.
"""


@dataclass(frozen=True)
class Check:
    """A requirement and its measurement."""

    rule: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Figure:
    """A measurement without a requirement."""

    name: str
    measured: str


@dataclass(frozen=True)
class Findings:
    """The outcome of one scenario."""

    scenario: str
    done: str
    """What was done, in a sentence or two."""
    checks: Sequence[Check] = ()
    figures: Sequence[Figure] = ()
    not_run: str | None = None
    """Why the scenario could not be run; then no requirement is met."""

    @property
    def met(self) -> bool:
        """Whether the scenario was run and every requirement is met."""
        return self.not_run is None and bool(self.checks) and all(check.met for check in self.checks)

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        if self.not_run is not None:
            return f"not run: {self.not_run}"
        return "all requirements met" if self.met else "REQUIREMENTS NOT MET"

    def markdown(self, environment: str) -> str:
        """The section of this scenario, without its heading."""
        if self.not_run is not None:
            return f"{environment}\n\n{self.done}\n\n**Not run**: {self.not_run}.\n"
        rows = [f"| {c.rule} | {c.measured} | {'yes' if c.met else '**no**'} |" for c in self.checks]
        rows += [f"| {f.name} | {f.measured} | reported |" for f in self.figures]
        table = "\n".join(["| requirement | measured | met |", "|---|---|---|", *rows])
        return f"{environment}\n\n{self.done}\n\n{table}\n"


class Results:
    """A Markdown file with one section per scenario."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, scenario: str, sections: Mapping[str, str]) -> None:
        """Replace the sections of `scenario`: the one of this name, and those that start with "SCENARIO: "."""
        kept = {name: text for name, text in self._sections().items() if name.partition(":")[0] != scenario}
        body = "".join(f"\n## {name}\n\n{text.strip()}\n" for name, text in (kept | dict(sections)).items())
        self._path.write_text(_HEAD + body, encoding="utf-8")

    def _sections(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        _, *parts = re.split(r"^## (.+)\n", self._path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def exit_status(findings: Sequence[Findings]) -> int:
    """0: everything was run and met; 1: a requirement was not met; 2: something was not run."""
    if any(f.not_run is None and not f.met for f in findings):
        return 1
    return 0 if all(f.met for f in findings) else 2
