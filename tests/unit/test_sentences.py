"""Sentences of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.features.sentences import sentences
from tests.cost import assert_in_proportion


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ('He said "Go." She went.', ['He said "Go."', "She went."]),
        ("(An aside.) **Bold.** End.", ["(An aside.)", "**Bold.**", "End."]),
        ("first line\nsecond line\r\n\r\nthird", ["first line", "second line", "third"]),
        ("天気がいい。「行こう。」そうだ！？はい", ["天気がいい。", "「行こう。」", "そうだ！？", "はい"]),
        (
            "Dr. Who met Mr. X, e.g. in Bern. J. S. Bach did not.",
            ["Dr. Who met Mr. X, e.g. in Bern.", "J. S. Bach did not."],
        ),
        ("1. Boil it.\n2. Eat it.", ["1. Boil it.", "2. Eat it."]),
        ("It took 12. Then 13.", ["It took 12.", "Then 13."]),
        ("Pi is 3.14 and v1.2.3 is out.", ["Pi is 3.14 and v1.2.3 is out."]),
        ("Well. . . . yes.", ["Well.", "yes."]),
        ("---\n* * *\n...", []),
        ("", []),
    ],
)
def test_a_text_is_split_by_the_stated_rule(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_a_limit_gives_the_first_sentences() -> None:
    assert sentences("- \nA b. C d. E f.", 2) == ["A b.", "C d."]


@given(st.text(alphabet='aA1 .!。」"\n\t…)', max_size=60))
def test_sentences_are_parts_of_the_text_in_order_and_have_all_its_letters(text: str) -> None:
    position = 0
    for sentence in sentences(text):
        position = text.index(sentence, position) + len(sentence)

    assert [c for s in sentences(text) for c in s if c.isalnum()] == [c for c in text if c.isalnum()]


@pytest.mark.parametrize(
    "part", [".", ". ", " ", '."', "。", "あ。", "e.g. ", "A. ", "\n1. ", ". \t", ".)", "!? ", "\r", "a"]
)
def test_time_is_proportional_to_the_length_of_the_text(part: str) -> None:
    assert_in_proportion(sentences, part * (200_000 // len(part)))
