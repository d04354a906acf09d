"""Ranges of a response: what was read of it, and what repeats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_client.wire import ChatMessage
from reward_service.features.ranges import TextRange, marked_ranges
from reward_service.features.recipe import Recipe
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.repetition import word_repetition
from reward_service.features.text import read_response, visible, words
from tests.cost import assert_at_most

PROMPT = [ChatMessage(role="user", content="Why?")]
DEFAULTS = Recipe(name="r", open_ended=("length_incentive",), closed_ended=("length_incentive",))
LIMIT = 100
PAPER = RecipeRegistry.load().get("rer")
PIECES = st.sampled_from(
    ["<think>", "</think>", "### Instruction:", "one two three", " ", "\n", "\u200b", "日本語", "🙂", "a", "b."]
)


def slices(response: str, ranges: list[TextRange]) -> list[str]:
    return [response[start:end] for start, end in ranges]


def evaluated(response: str, recipe: Recipe = DEFAULTS) -> list[str]:
    return slices(response, marked_ranges(response, PROMPT, recipe, LIMIT).evaluated)


def repeated(response: str, recipe: Recipe = DEFAULTS) -> list[str]:
    return slices(response, marked_ranges(response, PROMPT, recipe, LIMIT).repeated)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Paris.", ["Paris."]),
        ("\n Paris. \n", ["Paris."]),
        ("<think>Paris? Lyon?</think>Paris.", ["Paris."]),
        ("Paris.<think>Paris.</think>Lyon.", ["Paris.", "Lyon."]),
        ("Paris.\n### Instruction:\nParis.", ["Paris."]),
        ("<think>a</think>🙂 Paris.\n### Response: b", ["🙂 Paris."]),
        ("<think>never ends", []),
        ("", []),
    ],
)
def test_evaluated_is_what_is_left_of_the_response(response: str, expected: list[str]) -> None:
    assert evaluated(response) == expected


def test_a_recipe_that_keeps_reasoning_and_text_after_stop_strings_evaluates_them() -> None:
    response = "<think>a</think>b\n### Instruction: c"
    recipe = DEFAULTS.with_overrides({"reasoning": "keep", "cut_response": False})

    assert evaluated(response, recipe) == [response]


@given(st.lists(PIECES, max_size=12).map("".join), st.sampled_from([DEFAULTS, PAPER]))
def test_the_evaluated_ranges_are_the_text_that_features_see(response: str, recipe: Recipe) -> None:
    text = read_response(response, PROMPT, recipe).text

    joined = "".join(evaluated(response, recipe))
    assert visible(joined).strip() == visible(text).strip()
    assert all(part in response for part in repeated(response, recipe))


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("one two three four five", []),
        ("a b c d a b c e", ["a b c"]),
        ("a b c d a b c d", ["a b c d"]),
        ("Go on and on, go on and on.", ["on and on"]),
        ("x y z x y z x y z", ["x y z x y z"]),
        ("🙂 a b c 🙂 a b c", ["a b c"]),
        ("<think>a b c</think>a b c d", []),
        ("a b c\u200b d a b\u200b c", ["a b\u200b c"]),
    ],
)
def test_repeated_are_words_in_trigrams_that_occurred_before(response: str, expected: list[str]) -> None:
    assert repeated(response) == expected


def test_ranges_of_one_kind_are_bounded() -> None:
    response = "a b c. " + " ".join(f"a b c {n}" for n in range(3 * LIMIT))

    assert len(marked_ranges(response, PROMPT, DEFAULTS, LIMIT).repeated) == LIMIT


@pytest.mark.parametrize(
    "text", ["a b ", "\u200ba", "<think>", "</think>", "<think>x</think>y ", "### Instruction", "\n "]
)
def test_a_long_hostile_response_costs_no_multiple_of_reading_it_and_counting_its_words(text: str) -> None:
    response = (text * 200_000)[:200_000]

    def read() -> None:
        word_repetition(words(read_response(response, PROMPT, DEFAULTS).text, DEFAULTS.words))

    assert_at_most(8, lambda: marked_ranges(response, PROMPT, DEFAULTS, LIMIT), read)
