"""What a scenario found, as tables; and the file that keeps the last findings of each.

Findings ── checks: what must hold, what was measured, held? ── figures: measured, nothing promised
Results(path) ── one section a scenario; a new run replaces its own sections and leaves the others
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Check", "Figure", "Findings", "Results", "exit_status"]

_HEAD = """\
# Soak results

`make soak` writes this file: real services, real clients, load and kills for minutes. A section has what the last
run of its scenario measured; "held" says whether what must hold did. What a scenario does stands at the top of its
module in `load/`.
"""


@dataclass(frozen=True)
class Check:
    """Something that must hold."""

    rule: str
    measured: str
    held: bool


@dataclass(frozen=True)
class Figure:
    """Something that was measured and that nothing is promised about."""

    name: str
    measured: str


@dataclass(frozen=True)
class Findings:
    """What came of one scenario."""

    scenario: str
    done: str
    """What was done, in a sentence or two."""
    checks: Sequence[Check] = ()
    figures: Sequence[Figure] = ()
    not_run: str | None = None
    """Why it could not be run; it then has held nothing."""

    @property
    def held(self) -> bool:
        """Whether it was run and everything held."""
        return self.not_run is None and bool(self.checks) and all(check.held for check in self.checks)

    @property
    def verdict(self) -> str:
        """For the person who watches."""
        if self.not_run is not None:
            return f"not run: {self.not_run}"
        return "held" if self.held else "DID NOT HOLD"

    def markdown(self, circumstances: str) -> str:
        """The section of this scenario, after its heading."""
        if self.not_run is not None:
            return f"{circumstances}\n\n{self.done}\n\n**Not run**: {self.not_run}.\n"
        rows = [f"| {c.rule} | {c.measured} | {'yes' if c.held else '**no**'} |" for c in self.checks]
        rows += [f"| {f.name} | {f.measured} | reported |" for f in self.figures]
        table = "\n".join(["| what must hold | measured | held |", "|---|---|---|", *rows])
        return f"{circumstances}\n\n{self.done}\n\n{table}\n"


class Results:
    """The file with one section a scenario."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, scenario: str, sections: Mapping[str, str]) -> None:
        """Replace what stands there of `scenario`: the section of its name, and those that begin "SCENARIO: "."""
        kept = {name: text for name, text in self._sections().items() if name.partition(":")[0] != scenario}
        body = "".join(f"\n## {name}\n\n{text.strip()}\n" for name, text in (kept | dict(sections)).items())
        self._path.write_text(_HEAD + body, encoding="utf-8")

    def _sections(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        _, *parts = re.split(r"^## (.+)\n", self._path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def exit_status(findings: Sequence[Findings]) -> int:
    """0 when everything was run and held, 1 when something did not hold, 2 when something was not run."""
    if any(f.not_run is None and not f.held for f in findings):
        return 1
    return 0 if all(f.held for f in findings) else 2
