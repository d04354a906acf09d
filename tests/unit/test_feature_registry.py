"""The feature registry: plug-ins are found by entry point, and one that cannot be used stops the start."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from reward_client.wire import QueryType
from reward_service.errors import ConfigurationError, InvalidRequestError
from reward_service.features import UNBOUNDED, Feature, GoldScore, RecipeOnly, ResponseText
from reward_service.features.feature import FeatureError
from reward_service.features.recipe import Recipe
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.registry import FeatureRegistry
from tests.plugins import install_plugin

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    return lambda package, code, **options: install_plugin(tmp_path, monkeypatch, package, code, **options)


def politeness(**changes: object) -> Feature[ResponseText]:
    fields: dict[str, object] = {
        "name": "politeness",
        "needs": ResponseText,
        "range": (0.0, 1.0),
        "label": "Politeness",
        "log_key": "politeness",
        "compute": lambda inputs: float("please" in inputs.words),
    }
    return Feature(**(fields | changes))  # type: ignore[arg-type]


def recipe(plugin: Feature[ResponseText], package: str = "polite 1.0", **fields: object) -> Recipe:
    factors = ["length_incentive", plugin.name]
    content = {"name": "x", "open_ended": factors, "closed_ended": factors} | fields
    return Recipe.model_validate(content, context=FeatureRegistry([(plugin, package)]))


def test_an_installed_plugin_is_found(install: Install) -> None:
    install("gbx_found", "FEATURE = feature('found', ResponseText, lambda inputs: 1.0)", version="2.5")

    registry = FeatureRegistry.load()

    assert registry["found"].label == "Found"
    assert registry.package("found") == "gbx_found 2.5"
    assert registry.packages["gbx_found"] == "2.5"
    assert registry.package("length_incentive") is None


@pytest.mark.parametrize(
    ("package", "code", "cause"),
    [
        ("gbx_raises", "raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("gbx_imports", "import no_such_module_xyz", "no_such_module_xyz"),
        ("gbx_lacks", "OTHER = 1", "FEATURE"),
        ("gbx_kind", "FEATURE = len", "not a Feature"),
        ("gbx_bad_name", "FEATURE = feature('Bad-Name', ResponseText, len)", "'Bad-Name'"),
        ("gbx_needs", "FEATURE = feature('x', str, len)", "needs must be one of"),
        ("gbx_range", "FEATURE = feature('x', ResponseText, len, range=(1.0, 0.0))", "not an interval"),
        ("gbx_range_type", "FEATURE = feature('x', ResponseText, len, range=('low', 'high'))", "ValueError"),
        ("gbx_ranges", "FEATURE = feature('x', ResponseText, len, range=lambda p: p.no_such)", "no_such"),
        ("gbx_taken", "FEATURE = feature('gold', ResponseText, len, log_key=None)", "'gold' is already used"),
        ("gbx_log", "FEATURE = feature('x', ResponseText, len, log_key='relevance')", "'relevance'"),
        ("gbx_measured", "FEATURE = feature('x', ResponseText, len, log_key='relevance_measured')", "_measured"),
        ("gbx_log_key", "FEATURE = feature('x', ResponseText, len, log_key='truncated')", "'truncated'"),
    ],
)
def test_a_broken_plugin_stops_the_start_with_its_package_and_cause(
    install: Install, package: str, code: str, cause: str
) -> None:
    install(package, code)

    with pytest.raises(ConfigurationError, match=f"plug-in {package} 1.0") as caught:
        FeatureRegistry.load()

    assert cause in str(caught.value)


def test_two_plugins_with_one_name_stop_the_start_and_both_are_named(install: Install) -> None:
    for package in ("gbx_first", "gbx_second"):
        install(package, f"FEATURE = feature('same', ResponseText, len, log_key='{package}')")

    with pytest.raises(ConfigurationError, match=r"gbx_second 1\.0.*'same'.*gbx_first 1\.0"):
        FeatureRegistry.load()


def test_an_unknown_factor_names_the_nearest_feature_and_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text("open_ended: [length_incentiv]\nclosed_ended: [length_incentive]\n")

    with pytest.raises(ConfigurationError, match=r"(?s)typo\.yaml.*did you mean 'length_incentive'\?") as caught:
        RecipeRegistry.load(tmp_path)

    assert "open_ended" in str(caught.value)


def test_a_plugins_value_is_a_factor() -> None:
    values = {"length_incentive": 0.5, "politeness": 0.5}

    assert recipe(politeness()).combine(QueryType.OPEN_ENDED, values) == 0.25


def test_a_range_maps_a_plugins_value_and_a_floor_bounds_it() -> None:
    mapped = recipe(politeness(), feature_ranges={"politeness": [0.5, 1.0]}, feature_floors={"politeness": 0.25})

    assert [
        mapped.combine(QueryType.OPEN_ENDED, {"length_incentive": 1.0, "politeness": value})
        for value in (1.0, 0.75, 0.5, 0.0)
    ] == [1.0, 0.5, 0.25, 0.25]
    assert mapped.bounds() == (0.0, 5.12)


def test_the_range_of_a_plugin_bounds_the_reward() -> None:
    assert recipe(politeness(range=(-2.0, 3.0)), max_response_tokens=100).bounds() == (-2.0, 3.0)


def test_a_range_may_depend_on_the_recipe() -> None:
    plugin = politeness(range=lambda parameters: (0.0, 1000.0 / parameters.max_response_tokens))

    assert recipe(plugin, max_response_tokens=100).bounds() == (0.0, 10.0)


@pytest.mark.parametrize("bounds", [UNBOUNDED, (0.0, math.inf)])
def test_an_unbounded_plugin_needs_a_reward_range(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="reward_range is needed, because politeness has no bounds"):
        recipe(politeness(range=bounds))

    assert recipe(politeness(range=bounds), reward_range=[0.0, 9.0]).bounds() == (0.0, 9.0)


def test_a_constant_of_a_plugin_scales_the_reward() -> None:
    plugin = politeness(needs=RecipeOnly, compute=lambda inputs: inputs.parameters.max_response_tokens / 256)
    scaled = recipe(plugin)

    assert scaled.combine(QueryType.OPEN_ENDED, {"length_incentive": 0.5}) == 1.0
    assert scaled.constants == {"politeness": 2.0}
    assert "politeness" not in [feature.name for feature in scaled.reported]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("floors", [{}, {"politeness": 0.25}])
def test_a_constant_that_is_not_finite_is_an_error_with_and_without_a_floor(
    value: float, floors: dict[str, float]
) -> None:
    plugin = politeness(needs=RecipeOnly, compute=lambda inputs: value)

    with pytest.raises(ValidationError, match="politeness is not a finite number"):
        recipe(plugin, feature_floors=floors, reward_range=[0.0, 9.0])


def test_an_override_that_makes_a_constant_not_finite_is_an_invalid_request() -> None:
    plugin = politeness(
        needs=RecipeOnly, compute=lambda inputs: {512: 1.0}.get(inputs.parameters.max_response_tokens, math.nan)
    )
    recipes = RecipeRegistry({"x": recipe(plugin, feature_floors={"politeness": 0.25})})

    with pytest.raises(InvalidRequestError) as caught:
        recipes.get("x", {"max_response_tokens": 100})

    assert "politeness is not a finite number" in caught.value.errors[0].message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_has_no_reward_despite_a_floor(value: float) -> None:
    floored = recipe(politeness(), feature_floors={"politeness": 0.25})

    with pytest.raises(FeatureError, match="politeness is not a finite number"):
        floored.combine(QueryType.OPEN_ENDED, {"length_incentive": 1.0, "politeness": value})


def test_a_plugin_may_be_computed_from_the_gold_score() -> None:
    plugin = politeness(needs=GoldScore, compute=lambda inputs: math.tanh(inputs.score))

    assert recipe(plugin).needs_gold


@pytest.mark.parametrize(
    ("field", "cause"),
    [
        ({"feature_ranges": {"politeness": [1.0, 1.0]}}, r"feature_ranges\.politeness must ascend"),
        ({"feature_ranges": {"gold": [0.0, 1.0]}}, "feature_ranges names 'gold'"),
        ({"feature_floors": {"query_relevance": 0.0}}, "use query_relevance_range and relevance_floor"),
    ],
)
def test_a_wrong_mapping_of_a_feature_is_an_error(field: dict[str, Any], cause: str) -> None:
    with pytest.raises(ValidationError, match=cause):
        recipe(politeness(), **field)


def test_the_hash_covers_the_plugins_version() -> None:
    assert recipe(politeness(), "polite 1.0").hash != recipe(politeness(), "polite 1.1").hash


def test_every_item_of_a_recipe_logs_the_same_keys() -> None:
    logged = recipe(politeness())

    assert logged.logs({"length_incentive": 0.5, "repetition_penalty": 1.0, "politeness": None}) == {
        "length_incentive": 0.5,
        "repetition_penalty": 1.0,
        "politeness": 0.0,
    }


def test_a_key_without_a_value_for_some_items_says_which_have_one() -> None:
    logged = recipe(politeness(), closed_ended=["length_incentive"])

    assert logged.logs({"length_incentive": 0.5, "repetition_penalty": 1.0, "politeness": 0.4}) == {
        "length_incentive": 0.5,
        "repetition_penalty": 1.0,
        "politeness": 0.4,
        "politeness_measured": 1.0,
    }
    assert logged.logs({"length_incentive": 0.5, "repetition_penalty": 1.0})["politeness_measured"] == 0.0


@pytest.mark.parametrize(
    ("name", "keys"),
    [("rer", set()), ("li-rp", set()), ("glassbox", {"finished", "reference_match", "relevance"})],
)
def test_features_that_share_a_key_in_both_branches_always_have_a_value(name: str, keys: set[str]) -> None:
    logs = RecipeRegistry.load(None).get(name).logs({})

    measured = {key.removesuffix("_measured") for key in logs if key.endswith("_measured")}
    assert measured >= keys if keys else not measured
    assert not measured & {"length_incentive", "repetition_penalty", "running_text", "meta_talk_penalty"}
