"""How a response is read under the rules of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from reward_client.wire import ChatMessage
from reward_service.features.text import (
    DEFAULT_STOP_STRINGS,
    PAPER_STOP_STRINGS,
    Reading,
    ReasoningPolicy,
    WordKind,
    clean_response,
    read_response,
)
from tests.cost import assert_at_most


@dataclass(frozen=True)
class Rules:
    reasoning: ReasoningPolicy = "drop"
    words: WordKind = "unicode"
    stop_strings: Sequence[str] = DEFAULT_STOP_STRINGS
    cut_response: bool = True
    relevance_sees_cut_response: bool = True


PAPER = Rules("flag", "wordpunct", PAPER_STOP_STRINGS, relevance_sees_cut_response=False)


def read(response: str, rules: Rules = Rules(), prompt: str = "Why does rain fall?") -> Reading:
    return read_response(response, [ChatMessage(role="user", content=prompt)], rules)


def test_an_ordinary_response_is_read_as_it_is() -> None:
    assert read("Rain falls.\n") == Reading("Rain falls.\n", "Rain falls.", "Rain falls.", False, ())


@pytest.mark.parametrize(("policy", "flags"), [("drop", ("reasoning",)), ("flag", ("reasoning",)), ("keep", ())])
def test_reasoning_counts_unless_it_is_dropped(policy: ReasoningPolicy, flags: tuple[str, ...]) -> None:
    response = "<think>rain is water</think>Rain falls."
    seen = "Rain falls." if policy == "drop" else response

    assert read(response, Rules(reasoning=policy)) == Reading(seen, seen, seen, False, flags)


def test_only_reasoning_is_an_empty_response() -> None:
    unfinished = read("<think>on and on")

    assert unfinished.is_empty
    assert unfinished.flags == ("reasoning", "unfinished_reasoning")
    assert read("on and on", prompt="Why?<think>").is_empty


def test_invisible_characters_are_flagged_by_every_recipe_and_removed_with_unicode_words() -> None:
    response = "R\u200bain."

    assert read(response) == Reading(response, "Rain.", "Rain.", False, ("invisible_characters",))
    assert read(response, PAPER) == Reading(response, response, response, False, ("invisible_characters",))


@pytest.mark.parametrize("rules", [Rules(), PAPER], ids=["unicode", "wordpunct"])
def test_a_response_that_shows_nothing_is_empty(rules: Rules) -> None:
    assert read("\u3164 \u2800\n\ufeff", rules).is_empty
    assert not read("🎉", rules).is_empty
    assert not read("…", rules).is_empty


def test_invisible_characters_hide_neither_reasoning_nor_a_stop_string() -> None:
    assert read("<th\u200bink>a</thi\u2060nk>Rain.").text == "Rain."
    assert read("Rain.\n### Instr\u00aduction: more").text == "Rain."


@pytest.mark.parametrize(
    "response",
    [
        "Rain falls.\n\n---\n\nMore of it.",
        "Use this:\n\n--quiet\n\n--dry-run",
        "def f():\n    pass\n\n\n\n\ndef g():\n    pass",
        "Sign here:\n\n____________",
        "<p><s>old</s> new</p>",
        "### Instructions\nStir well.\n### Response time\n5 ms",
    ],
)
def test_markdown_and_code_are_whole_by_default_and_a_cut_by_the_papers_list_is_flagged(response: str) -> None:
    assert read(response) == Reading(response, response, response, False, ())

    paper = read(response, PAPER)
    assert (paper.text == response) is (paper.flags == ())
    assert paper.relevance_text == response


@pytest.mark.parametrize("mark", DEFAULT_STOP_STRINGS)
def test_a_made_up_next_turn_is_cut_and_flagged(mark: str) -> None:
    assert read(f"Rain falls. \n{mark}\nAnd snow?") == Reading(
        f"Rain falls. \n{mark}\nAnd snow?", "Rain falls.", "Rain falls.", False, ("cut_at_stop_string",)
    )


def test_a_recipe_that_does_not_cut_flags_no_cut() -> None:
    rules = Rules(cut_response=False, relevance_sees_cut_response=False)

    assert read("Rain.\n### Response: more", rules).flags == ()


def test_many_stop_strings_cost_no_more_than_a_search_each() -> None:
    text = "ab" * 100_000

    def clean(n_stops: int) -> None:
        clean_response(text, [f"{'ab' * 40}{number}" for number in range(n_stops)])

    assert_at_most(16, lambda: clean(64), lambda: clean(8))


def test_a_stop_string_may_overlap_a_later_one() -> None:
    assert clean_response("one <<end>> two", (">> two", "<end>>", "<<end>")) == "one"
