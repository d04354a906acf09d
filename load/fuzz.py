"""Generated cases, new in every run: for the parsers, the queue, the client, and the service on a socket.

    pytest over the tests that generate their cases ──▶ hypothesis' statistics ──▶ how many cases, and of what

`make test` tries a twentieth of them, the same each time.
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

__all__ = ["count", "run"]

_ROOT = Path(__file__).parent.parent
_EFFORT = 20
_LEAST = 20_000
_LINE = re.compile(
    r"(?P<file>tests/[\w/]+\.py)::|  - during (?P<phase>\w+) phase|    - (?P<passing>\d+) passing\b"
)


def run(plan: Plan) -> list[Findings]:
    """Look for what breaks."""
    effort, least = (1, _LEAST // _EFFORT) if plan.short else (_EFFORT, _LEAST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-show-statistics"]
    ended = subprocess.run(
        [*command, *_tests()],
        cwd=_ROOT,
        env=os.environ | {"GLASSBOX_FUZZ": str(effort)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode:
        print(ended.stdout, flush=True)
    found = count(ended.stdout)
    verdict = ended.stdout.strip().rpartition("\n")[2].strip("= ")
    done = f"{effort} times as many generated cases as in `make test`, with a seed of their own."
    checks = [
        Check("no 500, no hang, no invariant broken", verdict, held=ended.returncode == 0),
        Check(f"≥ {least:,} cases", f"{found.total():,}", held=found.total() >= least),
    ]
    return [Findings("fuzz", done, checks, [Figure(name, f"{n:,} cases") for name, n in found.most_common()])]


def count(output: str) -> Counter[str]:
    """Cases that passed, by the file of their test, in what pytest printed with hypothesis' statistics."""
    cases: Counter[str] = Counter()
    file = phase = ""
    for match in filter(None, map(_LINE.match, output.splitlines())):
        file, phase = match["file"] or file, match["phase"] or phase
        if match["passing"] and phase == "generate":  # the others repeat known cases
            cases[file] += int(match["passing"])
    return cases


def _tests() -> list[str]:
    """The files of tests whose cases hypothesis makes."""
    files = sorted((_ROOT / "tests").rglob("test_*.py"))
    return [str(f.relative_to(_ROOT)) for f in files if "\nfrom hypothesis" in f.read_text(encoding="utf-8")]
