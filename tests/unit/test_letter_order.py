"""Letters in an order that makes words, in languages with spaces and without."""

from __future__ import annotations

from random import Random

import pytest

from reward_service.features.letter_order import latin_letter_order, unspaced_letter_order
from reward_service.features.running_text import running_text

LATIN = {
    "english": "Put the dough in a warm place, cover it with a cloth, and wait until it has twice its size.",
    "german": "Die Kartoffeln werden geschält, gewürfelt und zwanzig Minuten in Salzwasser gekocht.",
    "french": "Le château domine la vallée depuis plusieurs siècles, et chaque été des visiteurs y montent.",
    "spanish": "Los murciélagos duermen durante el día y salen al anochecer para cazar insectos en el río.",
    "italian": "La nonna preparava la pasta fresca ogni domenica mattina, e il nonno raccoglieva i pomodori.",
    "portuguese": "As crianças brincavam na praia enquanto os pescadores puxavam as redes cheias de peixes.",
    "dutch": "De fietsers wachtten geduldig bij het stoplicht terwijl de regen zachtjes op hun jassen viel.",
    "code": "def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return",
    "list": "- Guava\n- Kiwi\n- Strawberries\n- Oranges\n- Papaya\n- Blackcurrants",
}
UNSPACED = {
    "chinese": (
        "城市里的树木能降低气温，吸收灰尘，还能让人心情平静。"
        "夏天有树荫的街道比没有树的街道凉快得多，雨水也更容易渗入土里。"
    ),
    "traditional chinese": (
        "學習一門外語最重要的是每天都接觸它。聽廣播、看影片、讀短文，都比一次背很多單字有效。說錯了也沒有關係。"
    ),
    "japanese": (
        "猫が高い所を好むのは、周りを見渡せて安心できるからです。"
        "野生のころの習性が残っていて、木に登っていました。"
    ),
    "thai": ("การดื่มน้ำให้เพียงพอช่วยให้ร่างกายทำงานได้ดีขึ้น ผิวไม่แห้ง และไม่รู้สึกเหนื่อยง่าย ผู้ใหญ่ควรดื่มน้ำวันละประมาณหกถึงแปดแก้ว"),
}


def disordered(text: str, seed: int) -> str:
    """The letters of each word in random order; in a text without spaces, those of each ten characters."""
    random = Random(seed)
    pieces = text.split(" ") if text.count(" ") > 6 else [text[i : i + 10] for i in range(0, len(text), 10)]
    return " ".join("".join(random.sample(piece, len(piece))) for piece in pieces)


@pytest.mark.parametrize("text", LATIN.values(), ids=LATIN)
def test_words_have_their_letters_in_order(text: str) -> None:
    assert latin_letter_order(text) == 1.0
    assert latin_letter_order(text.upper()) == 1.0


@pytest.mark.parametrize("text", LATIN.values(), ids=LATIN)
def test_letters_in_disorder_make_no_words(text: str) -> None:
    values = [latin_letter_order(disordered(text, seed)) for seed in range(20)]
    assert sum(values) / len(values) < 0.6


@pytest.mark.parametrize("text", UNSPACED.values(), ids=UNSPACED)
def test_texts_without_spaces_have_words_too(text: str) -> None:
    assert unspaced_letter_order(text) == 1.0
    values = [unspaced_letter_order(disordered(text, seed).replace(" ", "")) for seed in range(20)]
    assert sum(values) / len(values) < 0.85


@pytest.mark.parametrize(
    "text", ["", "42", "Xq zf", "绿茶不发酵。", "Mbx kqz, wrpt!", "привет, как дела? всё хорошо, спасибо"]
)
def test_short_texts_and_other_scripts_are_not_judged(text: str) -> None:
    assert latin_letter_order(text) == unspaced_letter_order(text) == 1.0


@pytest.mark.parametrize(
    ("request_text", "text"),
    [("How do I make bread?", LATIN["english"]), ("ทำไมเราต้องดื่มน้ำ", UNSPACED["thai"])],
)
def test_disorder_lowers_running_text(request_text: str, text: str) -> None:
    assert running_text(request_text, text) == 1.0
    assert running_text(request_text, disordered(text, 1)) < 0.9


def test_a_language_that_is_not_known_is_not_judged_by_the_letters_of_others() -> None:
    polish = "Wczoraj wieczorem poszliśmy nad jezioro, żeby obejrzeć zachód słońca i posłuchać żab."
    assert running_text("Co robiliście wczoraj wieczorem nad jeziorem?", polish) == 1.0
