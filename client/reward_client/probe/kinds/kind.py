"""What a kind of worse response is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from reward_client.probe.case import Case

Generator = Callable[[Case, Random], Iterable[str]]
"""Makes worse responses from a prompt with a good answer; empty when the kind does not apply."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of worse response."""

    name: str
    """Identifier in files and reports."""
    group: str
    """Heading in reports."""
    summary: str
    """What such a response is, for people."""
    make: Generator
