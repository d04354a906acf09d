"""What the contract tests of one file gave, read from the report of pytest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class Outcome:
    """Tests of one file; at least one has passed or failed."""

    environment: str
    file: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""


def read_report(report: Path, outcome: Outcome) -> Outcome:
    """`outcome` with the numbers of tests in a report of pytest."""
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))  # noqa: S314 (written by pytest)
    total, failed, skipped = (
        sum(int(suite.get(name, 0)) for name in names)
        for names in (["tests"], ["failures", "errors"], ["skipped"])
    )
    passed = total - failed - skipped
    if passed == failed == 0:
        return replace(outcome, failed=1, skipped=skipped, note="no test passed")
    return replace(outcome, passed=passed, failed=failed, skipped=skipped)
