"""The result of one check, and how results are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    """It works, or is not needed; something is worth knowing."""
    FAILED = "failed"
    """It has to be changed: the exit status is 1."""
    SKIPPED = "skipped"
    """It was not made; `found` has the reason."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    subject: str
    status: Status
    found: str
    fix: str = ""
    """What to do, where something has to be done."""


def ok(subject: str, found: str) -> Check:
    """A check that found nothing wrong."""
    return Check(subject, Status.OK, found)


def note(subject: str, found: str, fix: str = "") -> Check:
    """A check that found something worth knowing."""
    return Check(subject, Status.NOTE, found, fix)


def failed(subject: str, found: str, fix: str) -> Check:
    """A check that found an error."""
    return Check(subject, Status.FAILED, found, fix)


def skipped(subject: str, why: str) -> Check:
    """A check that was not made."""
    return Check(subject, Status.SKIPPED, why)


@dataclass(frozen=True, slots=True)
class Section:
    """The checks of one subject, and text to read or to paste."""

    title: str
    checks: Sequence[Check]
    text: str = ""


def as_text(sections: Iterable[Section]) -> str:
    """One line a check, and below it what to do."""
    lines = []
    for section in sections:
        lines.append(f"{section.title}\n")
        for check in section.checks:
            lines.append(f"  {check.status:<8} {check.subject:<14} {_printable(check.found)}\n")
            if check.fix:
                lines.append(f"  {'':<8} {'':<14} → {_printable(check.fix)}\n")
        lines += [f"    {line}".rstrip() + "\n" for line in section.text.splitlines()]
        lines.append("\n")
    return "".join(lines)


def _printable(text: str) -> str:
    """What a server sent must not control the terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def as_json(sections: Sequence[Section], facts: Mapping[str, Any]) -> str:
    """The same as one JSON object."""
    found = [
        {"title": section.title, "checks": [asdict(check) for check in section.checks], "text": section.text}
        for section in sections
    ]
    return json.dumps({**facts, "sections": found}, indent=2, ensure_ascii=False) + "\n"


def count(sections: Sequence[Section], status: Status) -> int:
    """The number of checks with that status."""
    return sum(check.status is status for section in sections for check in section.checks)


def summary(sections: Sequence[Section], seconds: float) -> str:
    """One line: how many checks ended how, and which failed."""
    counts = [f"{count(sections, status)} {status}" for status in Status if count(sections, status)]
    subjects = [check.subject for one in sections for check in one.checks if check.status is Status.FAILED]
    to_fix = f"; to fix: {', '.join(dict.fromkeys(subjects))}" if subjects else ""
    return f"{', '.join(counts) or 'no checks'} in {seconds:.1f} s{to_fix}"


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` without the API keys: a server may repeat what it was sent."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "(key hidden)")
    return text
