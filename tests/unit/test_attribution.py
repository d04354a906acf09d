"""Parts of a reward: exact Shapley values of its factors, which sum to the reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_client.wire import Attribution
from reward_service.features import Feature, ResponseText
from reward_service.features.attribution import attribution, shapley_parts
from reward_service.features.factor import Factor
from reward_service.features.factor_spec import FactorSpec
from reward_service.features.feature import FeatureError

FACTOR = st.floats(min_value=-100, max_value=100)
PAIRS = st.lists(st.tuples(FACTOR, FACTOR), min_size=1, max_size=5)
"""A factor and its baseline value, each."""


def by_definition(factors: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """What each factor adds when it replaces its baseline value, averaged over all orders of replacing them."""
    n = len(factors)
    added: list[list[float]] = [[] for _ in range(n)]
    for order in permutations(range(n)):
        now = list(baseline)
        for i in order:
            before = math.prod(now)
            now[i] = factors[i]
            added[i].append(math.prod(now) - before)
    return [math.fsum(values) / len(values) for values in added]


def factor(name: str, *, constant: float | None = None, otherwise: Factor | None = None) -> Factor:
    made = Feature(
        name=name, needs=ResponseText, range=(0.0, 1.0), label=name, log_key=None, compute=lambda _: 0.0
    )
    spec = FactorSpec(feature="length_incentive", power=2.0)
    return Factor(made, spec, (0.0, 1.0), constant, otherwise=otherwise)


def test_the_parts_of_a_worked_example() -> None:
    parts = shapley_parts([0.62, 0.95, 1.10], [0.5, 0.9, 1.0])

    assert parts == pytest.approx([0.1166, 0.02945, 0.05185], abs=1e-12)
    assert sum(parts) + 0.45 == pytest.approx(0.62 * 0.95 * 1.10, abs=1e-15)


@given(PAIRS)
def test_parts_are_the_average_over_all_orders(pairs: list[tuple[float, float]]) -> None:
    factors, baseline = zip(*pairs, strict=True)
    scale = math.prod(max(1.0, abs(f), abs(b)) for f, b in pairs)

    assert shapley_parts(factors, baseline) == pytest.approx(by_definition(factors, baseline), abs=1e-12 * scale)


@given(st.lists(st.floats(min_value=0, max_value=10), min_size=1, max_size=12))
def test_parts_of_many_factors_sum_to_the_reward(factors: list[float]) -> None:
    parts = shapley_parts(factors, [1.0] * len(factors))

    scale = math.prod(max(1.0, factor) for factor in factors)
    assert 1.0 + math.fsum(parts) == pytest.approx(math.prod(factors), abs=1e-12 * scale)


def test_a_factor_at_its_baseline_value_has_no_part() -> None:
    assert shapley_parts([0.3, 5.12, 0.9], [1.0, 5.12, 1.0])[1] == 0.0


def test_equal_factors_have_equal_parts() -> None:
    first, second, _ = shapley_parts([0.4, 0.4, 0.9], [1.0, 1.0, 1.0])

    assert first == pytest.approx(second, abs=1e-15)


def test_a_zero_takes_most_of_the_baseline_reward_and_the_other_factors_their_share() -> None:
    assert shapley_parts([0.0, 0.9], [1.0, 1.0]) == pytest.approx([-0.95, -0.05])


def test_a_factor_that_is_replaced_has_the_name_and_the_value_of_what_replaces_it() -> None:
    factors = [factor("x", otherwise=factor("y")), factor("z")]

    made = attribution(factors, {"x": None, "y": 0.5, "z": 1.0}, empty=False)

    assert made.factors == {"y": 0.25, "z": 1.0}
    assert made.parts == pytest.approx({"y": -0.75, "z": 0.0})


def test_the_baseline_is_the_same_whatever_the_item_is() -> None:
    factors = [factor("x", otherwise=factor("y", constant=3.0)), factor("c", constant=2.0)]

    made = [attribution(factors, values, empty=False) for values in ({"x": 0.5}, {"x": None})]
    made.append(attribution(factors, {}, empty=True))

    assert [one.baseline_reward for one in made] == [4.0, 4.0, 4.0]
    assert [total(one) for one in made] == pytest.approx([0.5**2 * 4, 3**2 * 4, 0.0])


def test_a_product_that_is_too_large_is_an_error_and_not_a_number() -> None:
    with pytest.raises(FeatureError, match="finite"):
        attribution([factor("x"), factor("y"), factor("z")], {"x": 1e100, "y": 1e100, "z": 1e-100}, empty=False)


def total(made: Attribution) -> float:
    return made.baseline_reward + math.fsum(made.parts.values())
