"""Run the property-based tests with new cases: parsers, queue, client, and the service on a socket.

    pytest over the test files that use hypothesis ──▶ hypothesis' statistics ──▶ number of cases by file

`make test` runs a twentieth of them, the same ones each time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from load.plan import Plan
from load.report import Check, Figure, Findings

__all__ = ["count_cases", "run"]

_ROOT = Path(__file__).parent.parent
_MULTIPLE = 20
_MIN_CASES = 20_000
_LINE = re.compile(
    r"(?P<file>tests/[\w/]+\.py)::|  - during (?P<phase>\w+) phase|    - (?P<passing>\d+) passing\b"
)


def run(plan: Plan) -> list[Findings]:
    """Run the tests and count their cases."""
    multiple, minimum = (1, _MIN_CASES // _MULTIPLE) if plan.short else (_MULTIPLE, _MIN_CASES)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-show-statistics"]
    ended = subprocess.run(
        [*command, *_test_files()],
        cwd=_ROOT,
        env=os.environ | {"GLASSBOX_FUZZ": str(multiple)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode:
        print(ended.stdout, flush=True)
    cases = count_cases(ended.stdout)
    summary = ended.stdout.strip().rpartition("\n")[2].strip("= ")
    done = f"{multiple} times as many generated cases as in `make test`, with a new seed."
    checks = [
        Check("no 500, no hang, no violated invariant", summary, met=ended.returncode == 0),
        Check(f"≥ {minimum:,} cases", f"{cases.total():,}", met=cases.total() >= minimum),
    ]
    return [Findings("fuzz", done, checks, [Figure(name, f"{n:,} cases") for name, n in cases.most_common()])]


def count_cases(output: str) -> Counter[str]:
    """Passing cases by test file, from pytest's output with hypothesis' statistics."""
    cases: Counter[str] = Counter()
    file = phase = ""
    for match in filter(None, map(_LINE.match, output.splitlines())):
        file, phase = match["file"] or file, match["phase"] or phase
        if match["passing"] and phase == "generate":  # the other phases repeat known cases
            cases[file] += int(match["passing"])
    return cases


def _test_files() -> list[str]:
    """The test files that use hypothesis."""
    files = sorted((_ROOT / "tests").rglob("test_*.py"))
    return [str(f.relative_to(_ROOT)) for f in files if "\nfrom hypothesis" in f.read_text(encoding="utf-8")]
