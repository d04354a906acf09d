"""Characters that show nothing, and those that look like them and belong to words and emoji."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from reward_service.features.text import is_blank, visible, words
from tests.cost import assert_in_proportion

INVISIBLE = {
    "zero-width space": "\u200b",
    "joiner": "\u200d",
    "non-joiner": "\u200c",
    "left-to-right mark": "\u200e",
    "bidirectional override": "\u202e",
    "soft hyphen": "\u00ad",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "combining grapheme joiner": "\u034f",
    "NUL": "\0",
    "escape": "\x1b",
    "unit separator": "\x1f",
    "delete": "\x7f",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "Hangul initial filler": "\u115f",
    "blank Braille": "\u2800",
    "Khmer inherent vowel": "\u17b4",
    "Mongolian vowel separator": "\u180e",
    "variation selector": "\ufe0f",
    "tag": "\U000e0041",
    "selector of the supplement": "\U000e0101",
    "interlinear annotation": "\ufff9",
    "musical format": "\U0001d173",
    "null notehead": "\U0001d159",
    "shorthand format": "\U0001bca0",
    "lone surrogate": "\ud83d",
}


@pytest.mark.parametrize("mark", INVISIBLE.values(), ids=INVISIBLE)
def test_an_invisible_character_is_no_part_of_the_visible_text(mark: str) -> None:
    assert visible(mark.join("Rain falls.")) == "Rain falls."
    assert is_blank(f" {mark}{mark}\n{mark}")


@pytest.mark.parametrize(
    "text",
    [
        "می‌خواهم",
        "क्‍ष और र‌्य",
        "ශ්‍රී ලංකා",
        "නොක්‍රියා",
        "❤️‍🔥 👩🏽‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈",
        "⭐️ 1️⃣ ☎︎",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "葛\U000e0100城市",
        "ᠮᠣᠩᠭᠣᠯ᠎ᠠ".replace("\u180e", ""),
        "؀١٢ ۝",
        "tab\tline\r\nnext\u0085line\u2028 \u00a0\u3000",
        "naïve e\u0301 ก็",
    ],
)
def test_joiners_and_selectors_stay_where_they_belong_to_a_word_or_an_emoji(text: str) -> None:
    assert visible(text) is text or visible(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u200db", "ab"),
        ("क\u200d\u200d\u200d", "क\u200d"),
        ("⭐️️️️", "⭐️"),
        ("👩\u200d and", "👩 and"),
        ("a\U000e0067\U000e0062", "a"),
        ("🏴" + "\U000e0061" * 50, "🏴" + "\U000e0061" * 7),
    ],
)
def test_what_hides_behind_a_letter_or_an_emoji_is_removed(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_every_ignorable_format_and_control_character_is_invisible_and_nothing_else() -> None:
    """The table in the code equals the properties of the installed Unicode version."""
    shows_nothing = regex.compile(r"\p{DI}|[\p{Cf}--\p{PCM}]|[\p{Cc}--[\t\n\v\f\r\x85]]|\p{Cs}", regex.V1)
    expected = {c for c in map(chr, range(0x110000)) if shows_nothing.match(c)} | {*"\u2800\U00016fe4\U0001d159"}

    assert {c for c in map(chr, range(0x110000)) if not visible(c)} == expected


@given(st.text(st.sampled_from("aक👩⭐🏴 \u200b\u200c\u200d\ufe0f\U000e0061\U000e007f\u3164\0"), max_size=12))
def test_the_visible_part_of_a_visible_text_is_all_of_it(text: str) -> None:
    assert visible(visible(text)) == visible(text)


@given(st.text(max_size=40))
def test_the_visible_part_keeps_the_order_of_what_is_left(text: str) -> None:
    rest = iter(text)

    assert all(character in rest for character in visible(text))


@pytest.mark.parametrize(
    "unit", ["a\u200b", "\u200d", "👩\u200d", "\ufe0f", "\U000e0061", "\U0001f3f4\U000e0061", "a\u0301", "क\u200d"]
)
def test_the_cost_grows_with_the_length_of_a_hostile_text(unit: str) -> None:
    assert_in_proportion(lambda text: words(visible(text), "unicode"), unit * (160_000 // len(unit)))
