"""Reasoning in a response: what is thought, what is answer, what the recipe makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_client.wire import ChatMessage
from reward_service.features.text import opens_reasoning, split_reasoning

UNFINISHED = ("reasoning", "unfinished_reasoning")


@pytest.mark.parametrize(
    ("response", "answer", "thoughts"),
    [
        ("<think>\nrain is water\n</think>\n\nRain falls.", "\n\nRain falls.", ("\nrain is water\n",)),
        ("<think></think>Rain.", "Rain.", ("",)),
        ("<think>a</think>One. <think>b</think>Two.", "One. Two.", ("a", "b")),
        ("they ask about rain</think>Rain.", "Rain.", ("they ask about rain",)),
        ("<think>a <think> b</think>Rain.", "Rain.", ("a <think> b",)),
        ("<think>a</think>b</think>Rain.", "Rain.", ("a", "b")),
        ("<think>a</think>b <think>c</think>d</think>Rain.", "Rain.", ("a", "c", "b d")),
        ("<thinking>a</thinking>Rain.", "Rain.", ("a",)),
    ],
)
def test_the_answer_is_what_is_outside_of_the_tags(response: str, answer: str, thoughts: tuple[str, ...]) -> None:
    assert split_reasoning(response)[:3] == (answer, thoughts, ("reasoning",))


@pytest.mark.parametrize(
    ("response", "answer"), [("<think>on and on", ""), ("Rain. <think>but wait", "Rain. "), ("<think>", "")]
)
def test_a_thought_without_an_end_is_flagged_and_no_answer(response: str, answer: str) -> None:
    split = split_reasoning(response)

    assert (split.answer, split.flags) == (answer, UNFINISHED)


def test_a_response_to_a_prompt_that_opens_a_thought_begins_with_it() -> None:
    assert split_reasoning("on and on", opened=True).answer == ""
    assert split_reasoning("hm</think>Rain.", opened=True).answer == "Rain."
    assert split_reasoning("<think>hm</think>Rain.", opened=True).answer == "Rain."


@pytest.mark.parametrize(
    ("content", "opens"),
    [("Why?<think>", True), ("Why?\n<think>\n", True), ("What does <think> mean?", False), ("", False)],
)
def test_a_prompt_opens_a_thought_with_a_tag_at_its_end(content: str, opens: bool) -> None:
    assert opens_reasoning([ChatMessage(role="user", content=content)]) is opens


@pytest.mark.parametrize(
    "response",
    [
        "Rain falls.",
        "The tags `<think>` and `</think>` enclose it.",
        'It begins with "<think>".',
        "I think </b> so <thinker>.",
    ],
)
def test_a_text_without_reasoning_is_the_answer_as_it_is(response: str) -> None:
    assert split_reasoning(response)[:3] == (response, (), ())


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "rain", " ", "`"]), max_size=12).map("".join), st.booleans()
)
def test_nothing_but_tags_is_lost(response: str, opened: bool) -> None:
    split = split_reasoning(response, opened=opened)

    def letters(*texts: str) -> int:
        return sum(text.count("rain") for text in texts)

    assert letters(split.answer, *split.thoughts) == letters(response)
    assert bool(split.thoughts) is bool(split.flags)
