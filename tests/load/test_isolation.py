"""Short forms of the scenarios with several callers: nothing of the honest ones is lost.

Latencies and shares of the speed need a machine without other load; the tests in `tests/api/hostile` have bounds
that allow for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from load import callers, hostile
from load.plan import Plan

pytestmark = pytest.mark.slow


def test_honest_clients_lose_nothing_beside_a_random_hostile_one(tmp_path: Path) -> None:
    [findings] = hostile.run(Plan(tmp_path, short=True, seed=15))

    assert not [check for check in findings.checks if not check.met and "p99" not in check.rule]


def test_a_small_caller_is_never_refused_beside_a_greedy_one(tmp_path: Path) -> None:
    [findings] = callers.run(Plan(tmp_path, short=True))

    [refusals] = [check for check in findings.checks if "never refused" in check.rule]
    assert refusals.met, refusals.measured
