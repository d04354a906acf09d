"""Pairs with a response to a similar prompt: on topic, of both lengths, never to the same prompt."""

from __future__ import annotations

import random

import pytest

from reward_runs.errors import DataError
from reward_trainer.gold.preferences import Pair, n_words
from reward_trainer.gold.similar import similar_prompt_pairs

TOPICS = ("volcano", "orchestra", "submarine", "vineyard", "cathedral", "telescope")
QUESTIONS = (
    "repair costs",
    "famous examples",
    "early history",
    "daily maintenance",
    "safety rules",
    "best season",
)


def questions() -> list[Pair]:
    """A prompt for each topic and question, with a response that names both, of different lengths."""
    return [
        Pair(
            f"Explain the {question} of a {topic}.",
            f"{topic} {question}: " + " ".join(["word"] * (14 + 3 * j + i)),
            "no",
            "people",
        )
        for i, topic in enumerate(TOPICS)
        for j, question in enumerate(QUESTIONS)
    ]


def test_the_worse_response_answers_a_similar_prompt_and_not_this_one() -> None:
    pairs = questions()
    answers = {pair.prompt: pair.chosen for pair in pairs}

    made = similar_prompt_pairs(pairs, 20, random.Random(0))

    assert len({pair.prompt for pair in made}) == 20
    for pair in made:
        topic, question = pair.chosen.split(":")[0].split(" ", 1)
        other_topic, other_question = pair.rejected.split(":")[0].split(" ", 1)
        assert pair.source == "degraded_similar_prompt"
        assert answers[pair.prompt] == pair.chosen != pair.rejected
        assert topic == other_topic or question == other_question


def test_half_of_the_worse_responses_are_longer() -> None:
    made = similar_prompt_pairs(questions(), 20, random.Random(0))

    assert sum(n_words(pair.rejected) > n_words(pair.chosen) for pair in made) == 10


def test_the_last_turn_of_a_conversation_counts() -> None:
    earlier = "Human: Tell me about {}.\n\nAssistant: It is a place.\n\nHuman: "
    pairs = [
        Pair(earlier.format(topic) + pair.prompt, pair.chosen, "no", "people")
        for topic, pair in zip(reversed(TOPICS * 6), questions(), strict=True)
    ]

    for pair in similar_prompt_pairs(pairs, 20, random.Random(0)):
        topic, question = pair.chosen.split(":")[0].split(" ", 1)
        assert topic in pair.rejected or question in pair.rejected


def test_the_same_question_in_other_words_is_not_another_prompt() -> None:
    twins = [Pair(f"{pair.prompt} {'!' * n}", pair.chosen + " too" * n, "no", "people")
             for pair in questions() for n in (0, 1)]  # fmt: skip

    made = similar_prompt_pairs(twins, 20, random.Random(0))

    assert all(pair.chosen.split(":")[0] != pair.rejected.split(":")[0] for pair in made)


@pytest.mark.parametrize("prompts", [["Why?", "How?"], [], ["Alone here"], ["Same words", "Same words"]])
def test_prompts_that_are_not_similar_are_an_error_that_says_how_many_can_be_made(prompts: list[str]) -> None:
    pairs = [Pair(prompt, "word " * 20, "no", "people") for prompt in prompts]

    with pytest.raises(DataError, match="3 pairs with a response to a similar prompt were asked for, and 0 can"):
        similar_prompt_pairs(pairs, 3, random.Random(0))
