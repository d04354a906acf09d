"""The closed-ended prompts for wrong answers have right references and are not those of the battery."""

from __future__ import annotations

import re

from reward_client.probe.case import embedded_cases
from tools.closed_prompts import questions


def test_sums_have_their_result() -> None:
    sums = {p: a for p, a in questions().items() if re.fullmatch(r"What is \d+ [+×-] \d+\?", p)}

    assert len(sums) > 200
    for prompt, answer in sums.items():
        left, sign, right = prompt.removeprefix("What is ").removesuffix("?").split()
        a, b = int(left), int(right)
        assert int(answer) == {"+": a + b, "-": a - b, "×": a * b}[sign]


def test_the_letter_of_a_choice_is_that_of_the_answer() -> None:
    found = questions()
    choices = {prompt: answer for prompt, answer in found.items() if "\n" in prompt}

    assert len(choices) > 50
    for prompt, letter in choices.items():
        question, *options = prompt.split("\n")
        right = [text for text in options if re.match(rf"\(?{letter}[).] ", text)]
        assert right[0].split(" ", 1)[1] == found[question]


def test_no_prompt_is_one_of_the_battery_and_all_runs_are_equal() -> None:
    assert {case.prompt for case in embedded_cases()}.isdisjoint(questions())
    assert list(questions().items()) == list(questions().items())
