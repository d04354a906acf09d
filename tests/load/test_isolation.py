"""Short form of the hostile scenario: nothing of the honest callers is lost.

Latencies need a machine without other load; the tests in `tests/api/hostile` have bounds that allow for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from load import hostile
from load.plan import Plan

pytestmark = pytest.mark.slow


def test_honest_clients_lose_nothing_beside_a_random_hostile_one(tmp_path: Path) -> None:
    [findings] = hostile.run(Plan(tmp_path, short=True, seed=15))

    assert not [check for check in findings.checks if not check.met and "p99" not in check.rule]
