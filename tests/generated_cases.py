"""Number of generated cases of the property-based tests: the same few in every run, or many new ones on request.

GLASSBOX_FUZZ unset   the same cases for the same code, so that a failure is caused by a change
GLASSBOX_FUZZ=20      twenty times as many cases, with a new seed; used by `python -m load.run fuzz`

A failing case is printed as `@reproduce_failure(…)`, which repeats it in any selection of tests.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["MULTIPLE", "cases"]

_FUZZ = os.environ.get("GLASSBOX_FUZZ")
MULTIPLE = max(1, int(_FUZZ or "1"))

settings.register_profile("glassbox", max_examples=100 * MULTIPLE, derandomize=not _FUZZ, print_blob=True)
settings.load_profile("glassbox")


def cases(n: int) -> settings:
    """Settings for about `n` cases per multiple; a case that takes more than a second fails."""
    return settings(
        max_examples=n * MULTIPLE,
        deadline=1_000,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
