"""How long to look: `GLASSBOX_FUZZ` multiplies the number of cases (1 in `make test`)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EFFORT = max(1, int(os.environ.get("GLASSBOX_FUZZ", "1")))


def cases(n: int) -> settings:
    """Settings for about `n` cases at effort 1; a case that takes longer than a second fails."""
    return settings(
        max_examples=n * EFFORT,
        deadline=1_000,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
