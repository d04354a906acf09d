"""How hard to look with generated cases: the same few in every `make test`, many new ones where that is asked for.

GLASSBOX_FUZZ unset   the same cases for the same code: a run tells what a change broke, and nothing by chance
GLASSBOX_FUZZ=20      new cases, twenty times as many; `python -m load.run fuzz` does that

A case that failed is printed as `@reproduce_failure(…)`, which brings it back in any selection of tests.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["EFFORT", "cases"]

_GIVEN = os.environ.get("GLASSBOX_FUZZ")
EFFORT = max(1, int(_GIVEN or "1"))

settings.register_profile("glassbox", max_examples=100 * EFFORT, derandomize=not _GIVEN, print_blob=True)
settings.load_profile("glassbox")


def cases(n: int) -> settings:
    """Settings for about `n` cases at effort 1; a case that takes longer than a second fails."""
    return settings(
        max_examples=n * EFFORT,
        deadline=1_000,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
