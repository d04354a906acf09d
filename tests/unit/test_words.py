"""What counts as a word under `words: unicode`, in several scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.features.text import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, it's 3.14!", ["Don't", "stop", "it's", "3.14"]),
        ("1,000 of the U.S.A", ["1,000", "of", "the", "U.S.A"]),
        ("l’homme du Nord-Est", ["l’homme", "du", "Nord", "Est"]),
        ("1'000;5 a'b a;b c,d 1.b", ["1'000;5", "a'b", "a", "b", "c", "d", "1", "b"]),
        ("x += foo_bar[i]", ["x", "foo_bar", "i"]),
        ("| a | b |\n| --- | --- |", ["a", "b"]),
        ("!!! ??? ... ____ ----", []),
        ("🎉🎉 👨‍👩‍👧 ⭐️", []),
        (" \n ", []),
        ("Он пришёл домой", ["Он", "пришёл", "домой"]),
        ("이것은 한국어 문장이다", ["이것은", "한국어", "문장이다"]),
        ("هذه جملة قصيرة", ["هذه", "جملة", "قصيرة"]),
        ("यह हिन्दी है", ["यह", "हिन्दी", "है"]),
    ],
)
def test_words_are_segments_with_a_letter_or_digit(text: str, expected: list[str]) -> None:
    assert words(text, "unicode") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("秋天树叶变红了", ["秋天", "树叶", "变红", "了"]),
        ("雨が降る。コーヒーを飲む", ["雨が", "降る", "コー", "ヒー", "を飲", "む"]),
        ("用Python写2024年的代码", ["用", "Python", "写", "2024", "年的", "代码"]),
        ("น้ำเดือด", ["น้ำเดื", "อด"]),
        ("ຂ້ອຍກິນເຂົ້າ", ["ຂ້ອຍກິ", "ນເຂົ້າ"]),
    ],
)
def test_a_few_letters_of_an_unspaced_script_count_as_a_word(text: str, expected: list[str]) -> None:
    assert words(text, "unicode") == expected


ENGLISH = "Leaves turn red in autumn because the green pigment breaks down and other pigments become visible."
TRANSLATIONS = {
    "Chinese": "秋天树叶变红，是因为绿色的色素分解，其他的色素显露出来。",
    "Japanese": "秋に葉が赤くなるのは、緑の色素が分解され、ほかの色素が見えるようになるからです。",
    "Thai": "ใบไม้เปลี่ยนเป็นสีแดงในฤดูใบไม้ร่วงเพราะเม็ดสีเขียวสลายตัวและเม็ดสีอื่นปรากฏให้เห็น",
}


@pytest.mark.parametrize("text", TRANSLATIONS.values(), ids=TRANSLATIONS)
def test_a_translation_has_about_as_many_words_as_the_english_sentence(text: str) -> None:
    assert 0.6 < len(words(text, "unicode")) / len(words(ENGLISH, "unicode")) < 1.6


@pytest.mark.parametrize("unit", ["ha", "a", "_", "\u0301", "e\u0301", "x1"])
def test_a_run_without_a_boundary_is_one_word_at_most(unit: str) -> None:
    assert len(words(unit * 500, "unicode")) <= 1


@given(st.text(max_size=60))
def test_every_word_has_a_letter_or_digit_and_stands_in_the_text_in_order(text: str) -> None:
    position = 0
    for word in words(text, "unicode"):
        assert any(character.isalnum() for character in word)
        position = text.index(word, position) + len(word)


def test_the_papers_words_are_runs_of_word_characters_or_of_punctuation() -> None:
    assert words("don't... 日本語です", "wordpunct") == ["don", "'", "t", "...", "日本語です"]


@given(st.text(st.sampled_from("aZ09_.,;:'\"- \n\t|\r"), max_size=30))
def test_a_text_of_ascii_characters_has_the_words_of_the_same_text_beside_others(text: str) -> None:
    """The fast path for ASCII agrees with the library's word boundaries."""
    assert [*words(text, "unicode"), "дом"] == words(f"{text} дом", "unicode")
