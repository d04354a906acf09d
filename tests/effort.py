"""How hard to look with generated cases: the same few in every `make test`, many new ones where that is asked for.

GLASSBOX_FUZZ unset   the same cases for the same code: a run tells what a change broke, and nothing by chance
GLASSBOX_FUZZ=20      new cases, twenty times as many; `python -m soak.run fuzz` does that

A case that failed is printed as `@reproduce_failure(…)`, which brings it back in any selection of tests.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["cases"]

_GIVEN = os.environ.get("GLASSBOX_FUZZ")
_EFFORT = max(1, int(_GIVEN or "1"))
_HANG_MS = 5_000
"""A case that takes longer fails: it hangs, even on a busy machine."""

settings.register_profile(
    "glassbox", max_examples=100 * _EFFORT, derandomize=not _GIVEN, deadline=_HANG_MS, print_blob=True
)
settings.load_profile("glassbox")


def cases(n: int, *, anything_goes: bool = False) -> settings:
    """Settings for about `n` cases at effort 1. `anything_goes`: however slowly or rarely they can be made."""
    usual = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=n * _EFFORT,
        deadline=None if anything_goes else _HANG_MS,
        suppress_health_check=list(HealthCheck) if anything_goes else usual,
    )
