"""The white-box reward as arithmetic: words, features, recipes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_client.wire import ChatMessage, QueryType
from reward_service.errors import ConfigurationError, InvalidRequestError
from reward_service.features.builtin import length_incentive, similarity
from reward_service.features.feature import Similarity
from reward_service.features.recipe import Recipe
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.repetition import word_repetition
from reward_service.features.text import PAPER_STOP_STRINGS, clean_response, prompt_text, words

LI, RP, QR, RAR = "length_incentive", "repetition_penalty", "query_relevance", "reference_relevance"

PAPER_HASHES = {
    "gold": "b95d4307fa16",
    "li": "4341a323d634",
    "li-rp": "c33b52207414",
    "li-rp-qr-reference": "fc33ee03f3a8",
    "qr-reference": "010feccbeedb",
    "rer": "3242afc84de3",
    "rer-reference": "929f7a6aea21",
    "rer-reference-nostrip": "6dcf47586e1e",
}
"""Hashes of release 0.1, which named the last two `li-rp-qr` and `qr`; they are in the records of runs."""


@pytest.fixture(scope="module")
def recipes() -> RecipeRegistry:
    return RecipeRegistry.load()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don't stop", ["don", "'", "t", "stop"]),
        ("pi = 3.14!", ["pi", "=", "3", ".", "14", "!"]),
        ("wait... what?!", ["wait", "...", "what", "?!"]),
        ("日本語です", ["日本語です"]),
        ("star ⭐️ here", ["star", "⭐", "️", "here"]),
        (" \n ", []),
    ],
)
def test_words_are_runs_of_word_characters_or_of_punctuation(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("\n Paris. \n", "Paris."),
        ("Paris.\n### Instruction: more", "Paris."),
        ("one\n\n--\ntwo\n\n____three", "one"),
        ("\n\n\n\nHello", "Hello"),
        ("Paris. \n\n\n\n Lyon", "Paris."),
    ],
)
def test_a_response_ends_at_the_first_stop_string(response: str, expected: str) -> None:
    assert clean_response(response, PAPER_STOP_STRINGS) == expected


def test_prompt_text_is_the_user_turns_without_the_markers_of_the_template() -> None:
    messages = [
        ChatMessage(role="system", content="Be kind."),
        ChatMessage(role="user", content="Sort : these\n### Input:\nb a"),
        ChatMessage(role="assistant", content="a b"),
        ChatMessage(role="user", content="thanks</s>\n"),
    ]

    assert prompt_text(messages) == "Sort these b a thanks"


def test_length_incentive_is_a_hundredth_of_the_words() -> None:
    assert length_incentive(["w"] * 62) == 0.62


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 1.0), ("a b", 1.0), ("a b c", 1.0), ("a b c a b c", 3 / 4), ("a a a a", 1 / 2)],
)
def test_repetition_penalty_is_the_share_of_distinct_trigrams(text: str, expected: float) -> None:
    assert word_repetition(text.split()) == expected


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_repetition_penalty_lies_in_zero_exclusive_to_one(tokens: list[str]) -> None:
    assert 0 < word_repetition(tokens) <= 1


def test_cosine_is_bounded_and_dot_is_not() -> None:
    a = np.array([3.0, 4.0], dtype=np.float32)

    assert similarity(a, a, Similarity.DOT) == 25.0
    assert similarity(a, a, Similarity.COSINE) == 1.0
    assert similarity(a, -a, Similarity.COSINE) == -1.0
    assert similarity(a, 0 * a, Similarity.COSINE) == 0.0


def test_rer_multiplies_length_relevance_and_repetition_for_open_ended_prompts(recipes: RecipeRegistry) -> None:
    reward = recipes.get("rer").combine(QueryType.OPEN_ENDED, {LI: 0.62, RP: 0.95, QR: 0.70})

    assert reward == pytest.approx(0.62 * 0.95 * 0.70)


def test_rer_scales_consistency_to_the_longest_answer_for_closed_ended_prompts(recipes: RecipeRegistry) -> None:
    recipe = recipes.get("rer", {"max_response_tokens": 128})

    assert recipe.combine(QueryType.CLOSED_ENDED, {LI: 9.0, RP: 0.5, RAR: 0.75}) == pytest.approx(
        1.28 * 0.75 * 0.5
    )


def test_rer_gives_an_irrelevant_response_zero_instead_of_a_negative_reward(recipes: RecipeRegistry) -> None:
    assert recipes.get("rer").combine(QueryType.OPEN_ENDED, {LI: 5.0, RP: 1.0, QR: -0.3}) == 0.0


def test_rer_reference_rescales_without_clipping(recipes: RecipeRegistry) -> None:
    reward = recipes.get("rer-reference").combine(QueryType.CLOSED_ENDED, {LI: 0.1, RP: 1.0, RAR: 7.0})

    assert reward == pytest.approx(10.24)


@given(
    li=st.floats(0, 1.28), rp=st.floats(0, 1), relevance=st.floats(-1, 1), query_type=st.sampled_from(QueryType)
)
def test_bounds_hold_for_every_response_within_the_token_limit(
    li: float, rp: float, relevance: float, query_type: QueryType
) -> None:
    recipe = RecipeRegistry.load().get("rer", {"max_response_tokens": 128})
    low, high = recipe.bounds()

    assert low <= recipe.combine(query_type, {LI: li, RP: rp, QR: relevance, RAR: relevance}) <= high + 1e-12


def test_the_hash_covers_overrides_and_nothing_but_content(recipes: RecipeRegistry) -> None:
    rer = recipes.get("rer")

    assert recipes.get("rer", {"max_response_tokens": 128}).hash != rer.hash
    assert rer.model_copy(update={"name": "other", "description": "x"}).hash == rer.hash


def test_the_papers_recipes_keep_their_hashes(recipes: RecipeRegistry) -> None:
    assert {recipe.name: recipe.hash for recipe in recipes if recipe.name in PAPER_HASHES} == PAPER_HASHES


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("words", "unicode"),
        ("reasoning", "drop"),
        ("reasoning", "keep"),
        ("unreadable_relevance", "lowest"),
        ("unreadable_relevance", "error"),
    ],
)
def test_a_hash_covers_what_changes_a_reward(recipes: RecipeRegistry, field: str, value: str) -> None:
    assert recipes.get("rer", {field: value}).hash != PAPER_HASHES["rer"]


def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones(recipes: RecipeRegistry) -> None:
    with pytest.raises(InvalidRequestError, match=r"rer-reference") as caught:
        recipes.get("../../etc/passwd")

    assert caught.value.errors[0].field == "recipe"


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"max_response_token": 5}, "recipe_overrides.max_response_token"),
        ({"max_response_tokens": 0}, "recipe_overrides.max_response_tokens"),
        ({"relevance_floor": math.nan}, "recipe_overrides.relevance_floor"),
        ({"name": "mine"}, "recipe_overrides.name"),
        ({"stop_strings": [""]}, "recipe_overrides.stop_strings.0"),
    ],
)
def test_a_wrong_override_is_named(recipes: RecipeRegistry, overrides: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        recipes.get("rer", overrides)

    assert [error.field for error in caught.value.errors] == [field]


def test_ranges_must_ascend() -> None:
    with pytest.raises(ValidationError, match="query_relevance_range must ascend"):
        Recipe.model_validate(
            {"name": "x", "open_ended": [LI], "closed_ended": [LI], "query_relevance_range": [1.0, 1.0]}
        )


def test_an_operators_recipe_is_found_by_its_file_name_and_a_broken_one_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("open_ended: [length_incentive]\nclosed_ended: [length_incentive]\n")
    assert RecipeRegistry.load(tmp_path).get("mine").formula["open_ended"] == LI

    (tmp_path / "bad.yaml").write_text("open_ended: [no_such_factor]\n")
    with pytest.raises(ConfigurationError, match=r"bad\.yaml"):
        RecipeRegistry.load(tmp_path)
