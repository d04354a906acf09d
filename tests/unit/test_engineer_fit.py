"""`glassbox engineer`: what is found in made-up features whose gold is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reward_client.rows import FileError
from reward_client.wire import QueryType, RecipeInfo
from reward_evidence.engineer.caution import warnings
from reward_evidence.engineer.engineering import Engineering, engineer
from reward_evidence.engineer.findings import ENGINEERED
from reward_evidence.engineer.measure import Measured
from reward_evidence.engineer.pairs import pairs_of
from reward_evidence.engineer.product import rewards
from reward_evidence.engineer.ranking import accuracy_by_prompt, correlation_by_prompt
from reward_evidence.engineer.recipe_file import factors_of
from reward_evidence.engineer.result import ServiceCheck
from reward_evidence.engineer.selection import Settings
from reward_evidence.engineer.shapes import Shape, Term
from reward_evidence.engineer.table import FloatArray, Table
from reward_service.features.recipe import Recipe
from tests.unit.engineer_tables import BOUNDS, features, table

BASE = RecipeInfo(
    name="glassbox",
    hash="0",
    description="",
    reward_range=(0.0, 1.0),
    calibrated_for=None,
    needs_encoder=True,
    needs_gold=False,
    parameters={"open_ended": ["length_incentive"], "closed_ended": ["reference_match"]},
    formula={"open_ended": "length_incentive", "closed_ended": "reference_match"},
)
SETTINGS = Settings(max_factors=2, folds=2)


def engineered(rows: Table, settings: Settings = SETTINGS) -> Engineering:
    missing = frozenset(name for name, x in rows.features.items() if np.isnan(x).any())
    bounds = {name: BOUNDS[name] for name in rows.features}
    measured = Measured({QueryType.OPEN_ENDED: rows}, bounds, missing, frozenset())
    return engineer(measured, BASE, settings, lambda _: None)


def known_recipe(values: dict[str, FloatArray]) -> FloatArray:
    """Powers, saturation and a gate that is 0 for some rows."""
    gate = np.clip((values["query_relevance"] - 0.15) / 0.45, 0, 1)
    return np.minimum(values["length_incentive"] / 1.2, 1.0) * values["repetition_penalty"] ** 3 * gate**2


@pytest.fixture(scope="module")
def recovered() -> Engineering:
    values = features(110 * 8, np.random.default_rng(1))
    return engineered(table(known_recipe(values), values, 8), Settings(max_factors=3, folds=3))


def test_a_known_recipe_is_recovered_from_its_own_scores(recovered: Engineering) -> None:
    """Held out: prompts that the recipe of their fold was not fitted on."""
    found = recovered.types[QueryType.OPEN_ENDED]

    assert recovered.overall.correlation[ENGINEERED].mean >= 0.99
    assert {factor["feature"] for factor in found.factors} == {
        "length_incentive",
        "repetition_penalty",
        "query_relevance",
    }


def test_what_a_feature_adds_is_zero_for_one_that_gold_ignores(recovered: Engineering) -> None:
    found = recovered.types[QueryType.OPEN_ENDED].features
    adds = {one.name: one.adds for one in found if one.adds is not None}

    assert all((adds[name].low or 0) > 0.02 for name in ("query_relevance", "length_incentive"))
    assert "distraction" not in adds or abs(adds["distraction"].mean) < 0.01


def test_the_gain_over_another_reward_is_paired_and_has_an_interval(recovered: Engineering) -> None:
    gain = recovered.overall.accuracy_gain["longest"]
    accuracy = recovered.overall.accuracy

    assert gain.mean == pytest.approx(accuracy[ENGINEERED].mean - accuracy["longest"].mean)
    assert gain.low is not None
    assert 0 < gain.low < gain.mean


def test_the_same_seed_gives_the_same_result() -> None:
    values = features(30 * 4, np.random.default_rng(2))
    rows = table(known_recipe(values), values, 4)

    assert engineered(rows).types == engineered(rows).types


def test_held_out_figures_of_random_gold_are_those_of_chance() -> None:
    """Selection among many shapes must not leak into the figures."""
    rng = np.random.default_rng(3)
    values = features(80 * 5, rng)
    found = engineered(table(rng.normal(size=400), values, 5))
    accuracy = found.overall.accuracy[ENGINEERED]

    assert accuracy.low is not None
    assert accuracy.high is not None
    assert accuracy.low < 0.5 < accuracy.high
    assert any("includes 50 %" in text for text in cautions(found))


def test_gold_that_pays_for_length_without_an_end_is_a_warning() -> None:
    values = features(40 * 6, np.random.default_rng(4))
    found = engineered(table(values["length_incentive"] * values["repetition_penalty"], values, 6))

    assert any(text.startswith("Gold rises without an end with Words") for text in cautions(found))


def test_gold_that_is_satisfied_with_some_length_is_no_warning(recovered: Engineering) -> None:
    assert not any("without an end" in text for text in cautions(recovered))


def test_gold_that_falls_with_a_feature_is_a_warning() -> None:
    values = features(40 * 5, np.random.default_rng(5))
    gold = values["repetition_penalty"] - 2 * values["length_incentive"]

    assert any(
        text.startswith("Gold prefers less of Words") for text in cautions(engineered(table(gold, values, 5)))
    )


def cautions(found: Engineering) -> list[str]:
    return warnings(found.types, found.overall, ServiceCheck(1, 0.0, "0", 0), None, {"length_incentive": "Words"})


def test_rewards_that_the_service_computes_otherwise_are_the_first_warning(recovered: Engineering) -> None:
    found = warnings(recovered.types, recovered.overall, ServiceCheck(9, 0.5, "0", 0), None, {})

    assert found[0].startswith("The service computes other rewards than the fit, by up to 0.5")


# Input that cannot be fitted, or only in part -----------------------------------------------------------------


def test_one_response_to_a_prompt_is_an_error_that_says_so() -> None:
    values = features(50, np.random.default_rng(0))

    with pytest.raises(FileError, match="each of the 50 prompts has one response, and ranks need several"):
        engineered(table(known_recipe(values), values, 1))


def test_constant_gold_is_an_error() -> None:
    with pytest.raises(FileError, match="gold is the same for all responses to each of 30 prompts"):
        engineered(table(np.ones(90), features(90, np.random.default_rng(0)), 3))


def test_two_prompts_are_an_error_that_says_how_many_are_needed() -> None:
    values = features(20, np.random.default_rng(0))

    with pytest.raises(FileError, match="gold ranks the responses to 2 prompts, at least 20 are required"):
        engineered(table(known_recipe(values), values, 10))


def test_constant_features_are_an_error_and_not_a_recipe() -> None:
    values = {name: np.full(90, 0.5) for name in BOUNDS}

    with pytest.raises(FileError, match="no feature differs"):
        engineered(table(np.random.default_rng(0).normal(size=90), values, 3, {"longest": np.ones(90)}))


def test_a_query_type_without_rows_gets_the_factors_of_the_base(recovered: Engineering) -> None:
    closed = recovered.types[QueryType.CLOSED_ENDED]

    assert (closed.factors, closed.comparison) == (["reference_match"], None)
    assert closed.not_fitted == "closed-ended: the input has no such rows"


def test_a_feature_that_does_not_apply_to_most_rows_counts_as_1_there() -> None:
    rng = np.random.default_rng(6)
    values = features(120 * 5, rng)
    values["content_density"][np.repeat(rng.random(120) < 0.7, 5)] = np.nan
    gold = values["repetition_penalty"] * np.where(
        np.isnan(values["content_density"]), 1, values["content_density"]
    )
    found = engineered(table(gold, values, 5))

    factors = {factor["feature"]: factor for factor in found.types[QueryType.OPEN_ENDED].factors}
    assert factors["content_density"]["otherwise"] == {"feature": "max_length_incentive", "saturate": 0.01}
    assert "otherwise" not in factors["repetition_penalty"]
    assert found.overall.correlation[ENGINEERED].mean >= 0.99


def test_empty_responses_rank_last_whatever_their_features_are() -> None:
    rng = np.random.default_rng(7)
    values = features(40 * 5, rng)
    empty = rng.random(200) < 0.3
    gold = np.where(empty, -1.0, values["repetition_penalty"])
    found = engineered(table(gold, values, 5, empty=empty))

    assert found.overall.accuracy[ENGINEERED].mean >= 0.98


# Arithmetic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "terms",
    [
        (Term(Shape("length_incentive"), 1.0), Term(Shape("repetition_penalty"), 3.0)),
        (Term(Shape("length_incentive", "saturate", high=0.7), 0.5), Term(Shape("finished"), 2.0)),
        (Term(Shape("query_relevance", "gate", 0.15, 0.6), 1.5),),
        (Term(Shape("query_relevance", "clip", 0.2, 1.0), 0.3),),
        (Term(Shape("content_density", "gate", 0.0, 0.3), 8.0), Term(Shape("semantic_novelty"), 1.0)),
    ],
    ids=str,
)
def test_rewards_are_those_of_the_recipe_that_is_written(terms: tuple[Term, ...]) -> None:
    rng = np.random.default_rng(8)
    values = features(40, rng) | {"semantic_novelty": np.where(rng.random(40) < 0.5, np.nan, rng.random(40))}
    missing = frozenset({"semantic_novelty"})
    factors = factors_of(terms, missing)
    recipe = Recipe.model_validate({"name": "x", "open_ended": factors, "closed_ended": factors})
    found = rewards(terms, table(np.zeros(40), values, 4))

    for i in range(40):
        row = {name: None if np.isnan(x[i]) else float(x[i]) for name, x in values.items()}
        assert found[i] == pytest.approx(recipe.combine(QueryType.OPEN_ENDED, row), rel=1e-12)


def test_rank_correlation_is_spearmans_and_0_where_rewards_are_all_equal() -> None:
    rng = np.random.default_rng(9)
    prompt = np.repeat(np.arange(3), 6)
    gold, reward = rng.integers(0, 4, 18).astype(float), rng.integers(0, 4, 18).astype(float)
    reward[6:12], gold[12:] = 0.0, 1.0
    found = correlation_by_prompt(reward, gold, prompt)

    assert found[0] == pytest.approx(stats.spearmanr(reward[:6], gold[:6]).statistic)
    assert found[1] == 0
    assert np.isnan(found[2])


def test_products_of_zero_tie_and_count_half() -> None:
    prompt, gold = np.zeros(3, np.int64), np.array([3.0, 2.0, 1.0])
    pairs = pairs_of(prompt, gold, seed=0)

    assert accuracy_by_prompt(np.array([0.0, 0.0, 0.0]), pairs, 1)[0] == 0.5
    assert accuracy_by_prompt(np.array([0.1, 0.0, 0.0]), pairs, 1)[0] == pytest.approx(2.5 / 3)


def test_many_responses_to_a_prompt_cost_a_bounded_number_of_pairs() -> None:
    prompt = np.repeat(np.arange(2), 5_000)
    pairs = pairs_of(prompt, np.random.default_rng(0).normal(size=10_000), seed=0, most=1_000)

    assert len(pairs) == 1_000
    assert pairs.weight.sum() == pytest.approx(1.0)
    assert np.bincount(pairs.prompt).tolist() == [500, 500]
