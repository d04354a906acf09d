"""Factors of recipes: transforms, their order, their bounds, and what is no factor."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_client.wire import QueryType
from reward_service.features import UNBOUNDED, Feature, ReferenceVectors, ResponseText
from reward_service.features.feature import FeatureError, Range
from reward_service.features.recipe import Recipe
from reward_service.features.registry import FeatureRegistry

OPEN = QueryType.OPEN_ENDED


def feature(name: str, bounds: Range = (0.0, 1.0), needs: type[Any] = ResponseText) -> Feature[Any]:
    return Feature(
        name=name, needs=needs, range=bounds, label=name, log_key=None, compute=lambda inputs: float(bounds[0])
    )


def registry(bounds: Range = (0.0, 1.0), other: Range = (0.0, 1.0)) -> FeatureRegistry:
    plugins = [feature("x", bounds), feature("y", other), feature("z", (0.0, 1.0), ReferenceVectors)]
    return FeatureRegistry([(plugin, "p 1") for plugin in plugins])


def recipe(*factors: object, bounds: Range = (0.0, 1.0), other: Range = (0.0, 1.0), **fields: object) -> Recipe:
    content = {"name": "r", "open_ended": list(factors), "closed_ended": list(factors)} | fields
    return Recipe.model_validate(content, context=registry(bounds, other))


def factor(x: float, bounds: Range = (0.0, 10.0), **transforms: object) -> float:
    return recipe({"feature": "x", **transforms}, bounds=bounds).combine(OPEN, {"x": x})


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ({"saturate": 3.0}, {0.0: 0.0, 1.5: 0.5, 3.0: 1.0, 9.0: 1.0}),
        ({"power": 2}, {0.0: 0.0, 0.5: 0.25, 3.0: 9.0}),
        ({"gate": [1.0, 3.0]}, {0.0: 0.0, 1.0: 0.0, 1.5: 0.25, 3.0: 1.0, 9.0: 1.0}),
        ({"clip": [0.2, 1.0]}, {0.0: 0.2, 0.5: 0.5, 7.0: 1.0}),
    ],
)
def test_a_transform_maps_the_features_value(transforms: dict[str, Any], expected: dict[float, float]) -> None:
    assert {x: factor(x, **transforms) for x in expected} == pytest.approx(expected)


def test_a_value_is_mapped_then_clipped_then_saturated_then_raised() -> None:
    ranged = recipe(
        {"feature": "x", "clip": [0.1, 0.6], "saturate": 0.8, "power": 2},
        bounds=(0.0, 20.0),
        feature_ranges={"x": [0.0, 10.0]},
    )

    # 8 is mapped to 0.8, clipped to 0.6, saturated to 0.75, squared; 0 is clipped to 0.1
    assert ranged.combine(OPEN, {"x": 8.0}) == pytest.approx(0.75**2)
    assert ranged.combine(OPEN, {"x": 0.0}) == pytest.approx(0.125**2)


def test_a_gate_sees_the_clipped_value_and_a_power_the_gated_one() -> None:
    assert factor(9.0, clip=[0.0, 2.0], gate=[1.0, 3.0], power=3) == pytest.approx(0.5**3)


def test_a_floor_is_applied_before_the_clip() -> None:
    floored = recipe({"feature": "x", "clip": [0.0, 0.3]}, "y", feature_floors={"x": 0.5})

    assert floored.combine(OPEN, {"x": 0.1, "y": 1.0}) == 0.3


def intervals(lowest: float = -1e3) -> st.SearchStrategy[Range]:
    ends = st.tuples(st.floats(lowest, 1e3), st.floats(1e-3, 1e3))
    return ends.map(lambda drawn: (drawn[0], drawn[0] + drawn[1]))


powers = st.floats(0.1, 8)
any_sign = st.fixed_dictionaries({}, optional={"clip": intervals()})
gated = st.fixed_dictionaries({"gate": intervals()}, optional={"clip": intervals(), "power": powers})
not_negative = st.fixed_dictionaries(
    {"clip": intervals(lowest=0.0)}, optional={"saturate": st.floats(1e-3, 1e3), "power": powers}
)
transforms = any_sign | gated | not_negative


@given(transforms, transforms, intervals(), intervals(), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_bounds_contain_every_reward_and_are_reached(
    own: dict[str, Any], other: dict[str, Any], bounds: Range, others: Range, u: float, v: float, applies: bool
) -> None:
    try:
        made = recipe({"feature": "x", **own, "otherwise": {"feature": "y", **other}}, bounds=bounds, other=others)
    except ValidationError:
        assume(False)
        raise
    low, high = made.bounds()

    def reward(x: float | None, y: float) -> float:
        return made.combine(OPEN, {"x": x, "y": y})

    x = min(max(bounds[0] + u * (bounds[1] - bounds[0]), bounds[0]), bounds[1])
    y = min(max(others[0] + v * (others[1] - others[0]), others[0]), others[1])
    tolerance = 1e-12 * max(abs(low), abs(high))

    assert low - tolerance <= reward(x if applies else None, y) <= high + tolerance
    ends = [*(reward(x, 0.0) for x in bounds), *(reward(None, y) for y in others)]
    assert (min(ends), max(ends)) == (low, high)


def test_a_clip_or_a_gate_bounds_a_feature_without_bounds() -> None:
    assert recipe({"feature": "x", "clip": [-1.0, 2.0]}, bounds=UNBOUNDED).bounds() == (-1.0, 2.0)
    assert recipe({"feature": "x", "gate": [-1.0, 2.0], "power": 3}, bounds=UNBOUNDED).bounds() == (0.0, 1.0)
    with pytest.raises(ValidationError, match="reward_range is needed, because x has no bounds"):
        recipe({"feature": "x", "power": 2}, bounds=(0.0, math.inf))


def test_rewards_without_finite_bounds_need_a_reward_range() -> None:
    with pytest.raises(ValidationError, match="reward_range is needed, because the product"):
        recipe(*[{"feature": "x", "power": 300}] * 3, bounds=(0.0, 10.0))
    with pytest.raises(ValidationError, match="reward_range is needed, because x has no bounds"):
        recipe({"feature": "x", "power": 400}, bounds=(0.0, 10.0))


@pytest.mark.parametrize("transform", [{"power": 2}, {"saturate": 2}])
def test_a_transform_for_values_of_at_least_0_needs_such_a_feature(transform: dict[str, Any]) -> None:
    (name,) = transform
    with pytest.raises(ValidationError, match=rf"{name} of x needs values of at least 0, and they can be -1"):
        recipe({"feature": "x", **transform}, bounds=(-1.0, 1.0))
    with pytest.raises(ValidationError, match=rf"{name} of query_relevance needs values of at least 0"):
        recipe({"feature": "query_relevance", **transform}, relevance_floor=None)
    with pytest.raises(ValidationError, match=rf"{name} of x needs"):
        recipe({"feature": "y", "otherwise": {"feature": "x", **transform}}, bounds=(-1.0, 1.0))

    assert recipe({"feature": "query_relevance", **transform}).bounds()[0] == 0.0
    assert recipe({"feature": "x", "clip": [0.0, 1.0], **transform}, bounds=(-1.0, 1.0)).bounds()[0] == 0.0
    assert recipe({"feature": "x", **transform}, "y", bounds=(-1.0, 1.0), feature_floors={"x": 0.0}).bounds()


def test_a_value_below_the_features_range_is_an_error_where_a_transform_would_hide_it() -> None:
    with pytest.raises(FeatureError, match=r"x is -0\.5, below the lowest value"):
        factor(-0.5, power=2)


@pytest.mark.parametrize(
    "transforms", [{"clip": [0.0, 1.0]}, {"gate": [0.0, 1.0]}, {"saturate": 1.0}, {"power": 2}]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_transform_makes_a_number_of_a_value_that_is_not_finite(
    transforms: dict[str, Any], value: float
) -> None:
    with pytest.raises(FeatureError, match="x is not a finite number"):
        factor(value, **transforms)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"feature": "lenght_incentive"},
            r"unknown feature 'lenght_incentive'; did you mean 'length_incentive'\?",
        ),
        ("reptition_penalty", r"unknown feature 'reptition_penalty'; did you mean 'repetition_penalty'\?"),
        (
            {"feature": "x", "saturat": 3},
            r"the factor of x has an unknown setting 'saturat'; did you mean 'saturate'\?",
        ),
        ({"feature": "x", 3: 3}, "the factor of x has an unknown setting 3"),
        ({"power": 3}, "Field required"),
        ({"feature": "x", "clip": [1.0, 1.0]}, "clip of x must ascend"),
        ({"feature": "x", "gate": [2.0, 1.0]}, "gate of x must ascend"),
        ({"feature": "x", "gate": [-1e308, 1e308]}, "gate of x must ascend"),
        ({"feature": "x", "gate": [0.0, math.nan]}, "finite"),
        ({"feature": "x", "saturate": 0}, "greater than 0"),
        ({"feature": "x", "power": -1}, "greater than 0"),
        ({"feature": "x", "power": math.inf}, "finite"),
        ({"feature": "x", "saturate": 1, "gate": [0.0, 1.0]}, "x has saturate and gate"),
        ({"feature": "x", "otherwise": "yy"}, r"unknown feature 'yy'"),
        (["x"], "valid dictionary"),
        (3, "valid dictionary"),
    ],
)
def test_what_is_no_factor_is_an_error_that_names_it(given: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        recipe("y", given)

    assert {error["loc"][:2] for error in caught.value.errors()} == {("open_ended", 1), ("closed_ended", 1)}


def test_a_recipe_without_factors_is_an_error() -> None:
    with pytest.raises(ValidationError, match="at least one factor"):
        recipe()


def test_otherwise_replaces_a_feature_that_does_not_apply() -> None:
    made = recipe({"feature": "x", "power": 2, "otherwise": {"feature": "y", "saturate": 0.5, "otherwise": "z"}})

    assert made.combine(OPEN, {"x": 0.5, "y": 0.1, "z": 0.7}) == 0.25
    assert made.combine(OPEN, {"x": None, "y": 0.1, "z": 0.7}) == pytest.approx(0.2)
    assert made.combine(OPEN, {"y": None, "z": 0.7}) == 0.7
    with pytest.raises(FeatureError, match="x has no value"):
        made.combine(OPEN, {"x": None})


def test_a_factor_is_written_as_short_as_possible_and_read_again() -> None:
    factors = ["y", {"feature": "x", "gate": [0.0, 1.0], "otherwise": {"feature": "z", "power": 2.0}}]
    made = recipe("y", {"feature": "x", "gate": [0, 1], "otherwise": {"feature": "z", "power": 2}})

    assert made.model_dump(mode="json")["open_ended"] == factors
    assert made.with_overrides({}) == made
    assert recipe({"feature": "y"}).hash == recipe("y").hash


def test_the_hash_covers_every_setting_of_a_factor() -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"clip": [0.0, 0.5]},
        {"saturate": 0.5},
        {"gate": [0.0, 0.5]},
        {"power": 2},
        {"power": 3},
        {"otherwise": "y"},
        {"otherwise": {"feature": "y", "power": 2}},
    ]

    hashes = {json.dumps(setting): recipe({"feature": "x", **setting}).hash for setting in settings}

    assert len(set(hashes.values())) == len(settings)


def test_a_hash_covers_the_package_of_a_feature_that_replaces_another() -> None:
    factors = [{"feature": "length_incentive", "otherwise": "x"}]
    content = {"name": "r", "open_ended": factors, "closed_ended": factors}
    hashes = {
        Recipe.model_validate(content, context=FeatureRegistry([(feature("x"), package)])).hash
        for package in ("p 1", "p 2")
    }

    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("given", "fields", "formula"),
    [
        (["x", "y"], {}, "x × y"),
        ([{"feature": "length_incentive", "saturate": 3}], {}, "min(length_incentive / 3, 1)"),
        ([{"feature": "x", "power": 8}], {}, "x^8"),
        ([{"feature": "x", "gate": [0.1, 0.3]}], {}, "gate(x, 0.1, 0.3)"),
        ([{"feature": "x", "clip": [0.2, 1]}], {}, "clip(x, 0.2, 1)"),
        ([{"feature": "query_relevance", "power": 2}], {}, "max(query_relevance, 0)^2"),
        (["x"], {"feature_ranges": {"x": [1, 3]}}, "((x - 1) / 2)"),
        ([{"feature": "x", "saturate": 0.5}], {"feature_ranges": {"x": [0, 2]}}, "min((x / 2) / 0.5, 1)"),
        ([{"feature": "x", "otherwise": {"feature": "z", "power": 2}}, "y"], {}, "(x, otherwise z^2) × y"),
    ],
)
def test_a_recipe_has_a_formula(given: list[object], fields: dict[str, Any], formula: str) -> None:
    assert recipe(*given, **fields).formula == {"open_ended": formula, "closed_ended": formula}


tenths = st.integers(1, 30).map(lambda n: n / 10)
rising = st.tuples(st.integers(-20, 20), st.integers(1, 20)).map(lambda n: [n[0] / 10, (n[0] + n[1]) / 10])
not_falling = st.tuples(st.integers(0, 20), st.integers(1, 20)).map(lambda n: [n[0] / 10, (n[0] + n[1]) / 10])


@given(
    st.fixed_dictionaries({}, optional={"clip": not_falling, "power": tenths}),
    st.fixed_dictionaries({})
    | st.fixed_dictionaries({"gate": rising})
    | st.fixed_dictionaries({"saturate": tenths}),
    st.none() | rising,
    st.floats(0, 1),
)
def test_the_formula_is_what_is_computed(
    own: dict[str, Any], shape: dict[str, Any], ranged: list[float] | None, x: float
) -> None:
    ranges: dict[str, Any] = {"feature_ranges": {"x": ranged}, "feature_floors": {"x": 0.0}} if ranged else {}
    try:
        made = recipe({"feature": "x", **own, **shape}, "y", **ranges)
    except ValidationError:
        assume(False)
        raise
    functions = {
        "min": min,
        "max": max,
        "clip": lambda value, low, high: min(max(value, low), high),
        "gate": lambda value, low, high: min(max((value - low) / (high - low), 0), 1),
    }
    written = made.formula["open_ended"].replace("^", "**").replace("×", "*")

    assert made.combine(OPEN, {"x": x, "y": 0.5}) == pytest.approx(
        eval(written, {"__builtins__": {}}, functions | {"x": x, "y": 0.5}),  # noqa: S307 (of this test's recipe)
        abs=1e-9,
    )
