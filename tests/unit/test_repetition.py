"""Repetition: what repeats loses, in every script, and honest text does not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.features.repetition import (
    character_repetition,
    doubled_characters,
    repetition_penalty,
    word_repetition,
)
from reward_service.features.text import words
from tests.cost import assert_in_proportion

LOOPS = {
    "Chinese": "叶子会变红" * 60,
    "Japanese": "はい、わかりました。" * 30,
    "Thai": "สวัสดีครับ" * 40,
    "Khmer": "សួស្តី" * 50,
    "laughter": "ha" * 150,
    "one letter": "a" * 300,
    "one digit": "0" * 300,
    "lines": "Rain.\n" * 60,
    "line feeds": "Rain falls." + "\n" * 400,
    "blank lines": "Rain falls." + " \n" * 400,
    "emoji": "🎉" * 120,
    "two emoji": "🎉🔥" * 60,
    "rules": "-" * 300,
    "markers": "- \n" * 100,
    "words": "the rain falls " * 40,
    "unspaced words": "therainfalls" * 40,
}


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS)
def test_a_loop_of_any_script_loses_most(text: str) -> None:
    assert repetition_penalty(text, words(text, "unicode"), "unicode") < 0.25


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_more_repeats_lose_more(n: int) -> None:
    poem = "".join(random.Random(1).choices("山川風月花鳥雨雪春夏秋冬", k=90))

    assert character_repetition(poem * n) == pytest.approx(min(1.0, 3 / n), rel=0.2)


def test_a_short_text_does_not_repeat() -> None:
    assert character_repetition("ha" * 7) == 1.0
    assert character_repetition("") == 1.0


def test_wordpunct_recipes_count_word_trigrams_alone() -> None:
    text = "ha" * 150

    assert repetition_penalty(text, words(text), "wordpunct") == 1.0
    assert word_repetition(["a", "b", "c", "a", "b", "c"]) == 3 / 4


@given(st.text(st.sampled_from("ab \n日🎉"), max_size=200))
def test_the_share_of_distinct_runs_is_that_of_the_definition(text: str) -> None:
    """The hashes give the same numbers as a set of the runs themselves."""
    while "  " in text:
        text = text.replace("  ", " ")
    runs = [text[i : i + 16] for i in range(len(text) - 15)]
    expected = len(set(runs)) / len(runs) if runs else 1.0

    assert character_repetition(text) == pytest.approx(min(1.0, 3 * expected))


def test_indentation_and_aligned_columns_are_no_repetition() -> None:
    lines = [f"{' ' * 200}value_{n} = read({n})" for n in range(12)]

    assert character_repetition("\n".join(lines)) == 1.0


def test_the_cost_grows_with_the_length() -> None:
    text = "".join(random.Random(2).choices("abcdefgh ", k=200_000))

    assert_in_proportion(character_repetition, text)


@pytest.mark.parametrize(
    "text",
    [
        "绿茶采摘后很快用高温杀青，叶子慢慢变干。",
        "まず米を計り、冷たい水で洗います。",
        "พริกทำให้เหงื่อออก ร่างกายจึงเย็นลง",
    ],
)
def test_every_character_twice_is_repetition_in_scripts_without_spaces(text: str) -> None:
    stuttered = "".join(character * 2 for character in text)

    assert doubled_characters(text) == 1.0
    assert repetition_penalty(stuttered, words(stuttered, "unicode"), "unicode") < 0.1
    assert doubled_characters("bookkeeper 00 11") == 1.0
