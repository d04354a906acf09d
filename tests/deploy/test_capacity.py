"""The number of replicas that docs/operations/capacity-planning.md works out."""

from __future__ import annotations

import random

import pytest

from tools.capacity import replicas, rollout


@pytest.mark.parametrize(
    ("per_second", "measured", "expected"), [(10, 100, 1), (70, 100, 1), (71, 100, 2), (2500, 100, 36)]
)
def test_a_replica_is_planned_for_seven_tenths_of_its_speed(
    per_second: float, measured: float, expected: int
) -> None:
    assert replicas(per_second, measured) == expected


def test_no_two_rollouts_of_a_measurement_are_alike() -> None:
    random_ = random.Random(0)
    queries = [str(rollout(random_, words=40)["query"]) for _ in range(200)]

    assert len(set(queries)) == 200
