"""The kinds of worse responses: each is what its summary states, for prompts of any type and script."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from reward_client.probe.case import Case, cases_from_rows, embedded_cases
from reward_client.probe.kinds import KINDS, worse_responses
from reward_client.probe.texts import units

OPEN = {
    "prompt": "How do I keep basil alive on a balcony?",
    "response": "Give it six hours of sun, and water the soil, never the leaves. Pick the tips weekly, so that "
    "it branches. Bring the pot inside below ten degrees, because cold turns the leaves black. Feed it monthly.",
}
CHINESE = {
    "prompt": "怎样养好阳台上的罗勒？",
    "response": "每天晒六个小时太阳，只浇土，不浇叶子。每周摘一次嫩尖，让它分枝。低于十度时搬进屋里。",
}
NUMBER = {"prompt": "What is 12 × 12?", "response": "12 × 12 = 144.", "reference": "144"}
OPTION = {
    "prompt": "Which one is a mammal?\nA) trout\nB) bat\nC) newt",
    "response": "B) bat",
    "reference": "B",
}
YES_NO = {"prompt": "Is 9 a prime number?", "response": "No, because 9 = 3 × 3.", "reference": "no"}
FREE = {
    "prompt": "Who painted Guernica?",
    "response": "It was painted by Pablo Picasso.",
    "reference": "Pablo Picasso",
}
ROWS = [OPEN, CHINESE, NUMBER, OPTION, YES_NO, FREE]


def case(row: dict[str, Any]) -> Case:
    query_type = "closed_ended" if "reference" in row else "open_ended"
    return cases_from_rows([{"query_type": query_type} | row], "test")[0]


def made(row: dict[str, Any], kind: str) -> list[str]:
    return [text for found, text in worse_responses(case(row)) if found.name == kind]


def test_there_are_at_least_25_kinds_each_with_a_summary() -> None:
    assert len(KINDS) >= 25
    assert all(kind.summary and kind.group for kind in KINDS.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["prompt"][:20])
def test_no_worse_response_equals_the_good_answer_and_all_are_repeatable(row: dict[str, Any]) -> None:
    first = worse_responses(case(row))

    assert all(text != row["response"] for _, text in first)
    assert first == worse_responses(case(row))
    assert len({kind.name for kind, _ in first}) >= 25


def test_kinds_of_closed_ended_prompts_are_not_made_for_open_ended_ones() -> None:
    with_reference = case(OPEN | {"reference": "six hours of sun"} | {"query_type": "open_ended"})
    names = {kind.name for kind, _ in worse_responses(with_reference)}

    assert not names & {"wrong_answer", "near_number", "negated_reference", "all_options", "two_answers"}


@pytest.mark.parametrize("row", [NUMBER, OPTION, YES_NO, FREE], ids=lambda row: row["reference"])
def test_wrong_answers_lack_the_reference(row: dict[str, Any]) -> None:
    texts = made(row, "wrong_answer")

    assert texts
    assert not any(re.search(rf"\b{row['reference']}\b", text, re.IGNORECASE) for text in texts)


def test_near_numbers_are_one_away_or_have_two_digits_exchanged() -> None:
    assert made(NUMBER, "near_number") == ["12 × 12 = 145.", "12 × 12 = 143."]
    assert made(NUMBER | {"response": "391", "reference": "391"}, "near_number") == ["392", "390", "319"]
    assert made(NUMBER | {"response": "It is 0.75 m.", "reference": "0.75 m"}, "near_number") == [
        "It is 0.76 m.",
        "It is 0.74 m.",
        "It is 0.57 m.",
    ]
    assert made(FREE, "near_number") == []


@pytest.mark.parametrize(
    ("row", "contained"),
    [(NUMBER, ["143", "144", "145"]), (OPTION, ["A", "B", "C"]), (YES_NO, ["No", "yes"])],
    ids=["number", "option", "yes or no"],
)
def test_all_options_name_the_right_one_and_others(row: dict[str, Any], contained: list[str]) -> None:
    texts = made(row, "all_options")

    assert texts
    assert all(word in text for text in texts for word in contained)


@pytest.mark.parametrize("row", [NUMBER, OPTION, YES_NO, FREE], ids=lambda row: row["reference"])
def test_two_answers_begin_with_the_right_one_and_end_with_a_wrong_one(row: dict[str, Any]) -> None:
    (text,) = made(row, "two_answers")

    assert text.startswith(row["response"])
    assert not re.search(rf"\b{row['reference']}\W*$", text, re.IGNORECASE)


@pytest.mark.parametrize("row", [OPEN, CHINESE], ids=["spaces", "no spaces"])
class TestKindsOfAnyScript:
    def test_doubled_has_twice_the_words(self, row: dict[str, Any]) -> None:
        (text,) = made(row, "doubled")

        assert len(units(text)) == 2 * len(units(row["response"]))

    def test_stuttered_has_every_word_twice(self, row: dict[str, Any]) -> None:
        (text,) = made(row, "stuttered")

        assert units(text) == [word for word in units(row["response"]) for _ in range(2)]

    def test_loops_are_longer_than_the_answer_and_contain_one_sentence_only(self, row: dict[str, Any]) -> None:
        (text,) = made(row, "looped")

        assert len(units(text)) >= 2 * len(units(row["response"]))
        assert set(units(text)) < set(units(row["response"]))

    @pytest.mark.parametrize("kind", ["padded", "self_praise", "closing_phrases", "fake_turn"])
    def test_padding_keeps_the_answer_and_adds_text(self, row: dict[str, Any], kind: str) -> None:
        for text in made(row, kind):
            assert text.startswith(row["response"])
            assert len(text) > len(row["response"]) + 20

    @pytest.mark.parametrize("kind", ["filled_up", "strays", "numbers_appended"])
    def test_only_the_first_sentence_of_the_answer_remains(self, row: dict[str, Any], kind: str) -> None:
        (text,) = made(row, kind)
        end = re.search(r"[.。]", row["response"])
        assert end is not None

        assert text.startswith(row["response"][: end.end()])
        assert row["response"][end.end() :].strip()[:10] not in text

    def test_cut_is_the_beginning_and_ends_in_a_sentence(self, row: dict[str, Any]) -> None:
        (text,) = made(row, "cut")

        assert row["response"].startswith(text)
        assert 0 < len(units(text)) < len(units(row["response"])) / 3
        assert text[-1] not in ".。"

    @pytest.mark.parametrize("kind", ["words_shuffled", "letters_shuffled"])
    def test_shuffled_text_has_the_same_characters_in_another_order(self, row: dict[str, Any], kind: str) -> None:
        (text,) = made(row, kind)

        assert Counter("".join(text.split())) == Counter("".join(row["response"].split()))
        assert text != row["response"]

    def test_copies_of_the_prompt_contain_nothing_else(self, row: dict[str, Any]) -> None:
        assert made(row, "prompt_copied") == [row["prompt"]]
        (looped,) = made(row, "prompt_looped")
        assert set(looped.split("\n")) == {row["prompt"]}
        assert len(looped) >= 3 * len(row["prompt"])

    def test_keywords_come_from_the_prompt(self, row: dict[str, Any]) -> None:
        (text,) = made(row, "keywords_stuffed")

        assert set(text.lower()) - {" "} <= set(row["prompt"].lower())

    @pytest.mark.parametrize("kind", ["off_topic_same_length", "off_topic_long", "other_language"])
    def test_off_topic_text_shares_no_content_with_the_prompt(self, row: dict[str, Any], kind: str) -> None:
        for text in made(row, kind):
            assert not {"basil", "balcony", "罗勒"} & set(text.lower().split())
            assert len(units(text)) >= len(units(row["response"]))


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("nothing", lambda text: text.strip() == ""),
        ("invisible", lambda text: not any(c.isprintable() and not c.isspace() for c in text)),
        ("letters", lambda text: all(len(word) == 1 and word.isalpha() for word in text.split())),
        ("numbers", lambda text: text.replace(" ", "").isdigit()),
        ("punctuation", lambda text: not any(c.isalnum() for c in text)),
        ("bullets", lambda text: set(text) == set("- \n")),
        ("headings", lambda text: all(line.startswith("## ") for line in text.split("\n") if line)),
        ("emoji", lambda text: all(ord(c) > 0x2000 for c in text)),
    ],
)
def test_text_without_content_consists_of_what_its_kind_states(kind: str, holds: Callable[[str], bool]) -> None:
    texts = made(OPEN, kind)

    assert len(texts) >= 2
    assert all(holds(text) for text in texts)


@pytest.mark.parametrize(
    "kind", ["refusal", "disclaimers", "self_talk", "promise", "hedging", "sycophancy", "question_back", "vague"]
)
def test_phrases_are_sentences_without_an_open_field_and_repeat_none(kind: str) -> None:
    texts = made(OPEN, kind)
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=[.!?])\s+", text)]

    assert texts
    assert "{" not in "".join(texts)
    assert len(set(sentences)) == len(sentences)


def test_self_talk_names_the_subject_of_the_prompt() -> None:
    assert any("basil" in text for text in made(OPEN, "self_talk"))


@pytest.mark.parametrize("prompt", ["", "?", "฿฿฿", "・・・", "🙂"])
def test_a_prompt_without_words_has_worse_responses_too(prompt: str) -> None:
    assert made(OPEN | {"prompt": prompt}, "keywords_stuffed")


def test_a_very_long_good_answer_gives_responses_of_bounded_length() -> None:
    answer = {"prompt": "Tell me everything.", "response": "A sentence with seven words in it. " * 5_000}
    longest = max(len(text) for kind, text in worse_responses(case(answer)) if kind.group == "no content")

    assert longest < 50_000


def test_responses_written_by_hand_come_first_and_new_names_become_kinds() -> None:
    row = OPEN | {"worse": {"refusal": ["No."], "thanks": ["Thank you for asking."]}}

    assert made(row, "refusal")[0] == "No."
    assert made(row, "thanks") == ["Thank you for asking."]


# The embedded battery ----------------------------------------------------------------------------------------


def test_the_battery_has_enough_prompts_pairs_and_categories() -> None:
    cases = embedded_cases()
    pairs = [pair for one in cases for pair in worse_responses(one)]

    assert len(cases) >= 40
    assert len(pairs) >= 400
    assert len({kind.name for kind, _ in pairs}) >= 25
    assert sum(len(texts) for one in cases for texts in one.worse.values()) >= 40


def test_the_halves_share_no_prompt_and_each_has_every_kind() -> None:
    halves = [embedded_cases(half) for half in ("development", "held_out")]
    kinds = [{kind.name for one in half for kind, _ in worse_responses(one)} for half in halves]

    assert len(halves[0]) + len(halves[1]) == len(embedded_cases())
    assert not {one.prompt for one in halves[0]} & {one.prompt for one in halves[1]}
    assert kinds[0] == kinds[1] == set(KINDS)


def test_hand_written_responses_of_the_battery_belong_to_known_kinds() -> None:
    assert {name for one in embedded_cases() for name in one.worse} <= set(KINDS)
