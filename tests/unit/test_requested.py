"""Requested length, number of items and form: what a prompt requests, and how well a response adheres to it."""

from __future__ import annotations

import pytest

from reward_client.wire import ChatMessage
from reward_service.features.requested_form import requested_form
from reward_service.features.requested_items import requested_items
from reward_service.features.requested_length import length_requests, requested_length
from reward_service.features.text import last_request

SENTENCE = "The bridge was closed in May because the repairs cost too much."


@pytest.mark.parametrize(
    ("instruction", "unit", "low", "high"),
    [
        ("Answer in one sentence.", "sentence", 1, 1),
        ("At most three sentences, please.", "sentence", 1, 3),
        ("Two short sentences at most.", "sentence", 1, 2),
        ("Explain it in a sentence or two.", "sentence", 1, 2),
        ("Use one or two sentences.", "sentence", 1, 2),
        ("Write 2-3 paragraphs about bees.", "paragraph", 2, 3),
        ("Write two to three paragraphs.", "paragraph", 2, 3),
        ("A poem of four lines about rain", "line", 4, 4),
        ("Summarise this in 50 words.", "word", 45, 55),
        ("Write a 200-word essay.", "word", 180, 220),
        ("Write about 100 words.", "word", 80, 120),
        ("Between 100 and 150 words.", "word", 90, 165),
        ("No more than a hundred words.", "word", 25, 100),
        ("100 words or less", "word", 25, 100),
        ("In under 280 characters", "character", 70, 280),
        ("At least 150 words.", "word", 150, float("inf")),
        ("Why is the sky blue? Be brief.", "word", 8, 60),
        ("Keep your answer short.", "word", 8, 60),
        ("Describe it in a few words.", "word", 2, 12),
        ("Bees, two sentences.", "sentence", 2, 2),
        ("Explain bees (200 words).", "word", 180, 220),
        ("A text that is three paragraphs long", "paragraph", 3, 3),
        ("One or two sentences are enough.", "sentence", 1, 2),
        ("Answer with one word.", "word", 1, 1.1),
    ],
)
def test_the_requested_length_is_read_from_the_prompt(
    instruction: str, unit: str, low: float, high: float
) -> None:
    (request,) = length_requests(instruction)

    assert request.unit == unit
    assert [request.low, request.high] == pytest.approx([low, high])


@pytest.mark.parametrize(
    "instruction",
    [
        "Why is the sky blue?",
        "Combine these two sentences.",
        "Translate the first two paragraphs.",
        "What does the word serendipity mean?",
        "How many words are in this line?",
        "Write a short story about a dog.",
        "Write a story with two characters who argue about a boat.",
        "Why should a password have at least 12 characters?",
        "Write a function that checks that a name has at most 20 characters.",
        "How many shapes have two lines of symmetry?",
        "What is the angle between two lines?",
        "If two lines are parallel, do they meet?",
        "Two lines meet at 40 degrees. What is the other angle?",
        "What do you call two words that sound the same?",
        "How do I combine two sentences with a semicolon?",
        "Write a plan for a week, one line for each day.",
        "Can a few words of kindness change a day?",
    ],
)
def test_other_prompts_request_no_length(instruction: str) -> None:
    assert requested_length(instruction, SENTENCE) is None


@pytest.mark.parametrize(
    ("instruction", "response", "expected"),
    [
        ("In one sentence.", SENTENCE, 1.0),
        ("In one sentence.", f"{SENTENCE} {SENTENCE}", 1 / 4),
        ("In one sentence.", " ".join([SENTENCE] * 4), 1 / 16),
        ("In one sentence.", "Mr. Smith, e.g. of Fig. 10, met Dr. J. Brown (cf. St. Paul).", 1.0),
        ("In three sentences.", SENTENCE, 1 / 3),
        ("In two sentences.", "Yes. No.", 1 / 4),
        ("In 50 words.", "word " * 50, 1.0),
        ("In 50 words.", "word " * 9, 1 / 5),
        ("In 50 words.", "word " * 110, 1 / 4),
        ("In two paragraphs.", f"{SENTENCE * 4}\n\n{SENTENCE * 4}", 1.0),
        ("In 3 lines.", "the sea is grey\nthe sky is low\nand I am here", 1.0),
        ("In 3 lines.", "sea\nsky\nhere", 1 / 3),
        ("Be brief.", "word " * 120, 1 / 4),
        ("At least 10 words, and one sentence.", f"{SENTENCE} {SENTENCE}", 1 / 4),
    ],
)
def test_adherence_is_smooth_in_the_excess_and_in_the_lack(
    instruction: str, response: str, expected: float
) -> None:
    assert requested_length(instruction, response) == pytest.approx(expected, rel=0.03)


def test_one_endless_sentence_is_not_one_sentence() -> None:
    endless = "and ".join(["the bridge was closed because of the rain "] * 20)

    assert requested_length("In one sentence.", endless) == pytest.approx((40 * 1 / len(endless.split())) ** 2)


def test_a_request_in_the_input_text_or_in_an_earlier_turn_does_not_count() -> None:
    def messages(*contents: str) -> list[ChatMessage]:
        return [ChatMessage(role="user", content=content) for content in contents]

    assert (
        requested_length(last_request(messages("Fix it.\n\n### Input:\nSay it in one sentence.")), SENTENCE)
        is None
    )
    assert requested_length(last_request(messages("Answer in 5 words.", "Now tell me more.")), SENTENCE) is None
    assert requested_length(last_request(messages("Hello", "Answer in 12 words.")), SENTENCE) == 1.0


LIST = "- apples\n- pears\n* plums"
TABLE = "| a | b |\n|---|---|\n| 1 | 2 |"
CODE = "```python\ndef double(x):\n    return 2 * x\n```"


@pytest.mark.parametrize(
    ("instruction", "good", "bad"),
    [
        ("List three fruits as bullet points.", LIST, SENTENCE),
        ("Answer as a list.", "1. apples\n2. pears", "apples and pears"),
        ("Give me a numbered list of steps.", "1) boil\n2) stir", LIST),
        ("Compare them in a table.", TABLE, LIST),
        ("Return valid JSON with the keys a and b.", '{"a": 1, "b": 2}', "a is 1 and b is 2"),
        ("Answer in JSON.", 'Here it is:\n```json\n{"a": [1]}\n```', '{"a": 1'),
        ("Write a Python function that doubles a number.", CODE, SENTENCE),
        ("Write a short SQL query for it.", "SELECT name FROM users WHERE age > 3;", SENTENCE),
    ],
)
def test_a_response_in_the_requested_form_has_1_and_another_has_0(instruction: str, good: str, bad: str) -> None:
    assert requested_form(instruction, good) == 1.0
    assert requested_form(instruction, bad) == 0.0


def test_without_a_request_every_form_has_1_and_of_two_requests_one_counts_half() -> None:
    assert requested_form("Why is a list better than a table, and is JSON a list?", SENTENCE) == 1.0
    assert requested_form("Answer as a list, and write a Python function for it.", LIST) == 0.5


def test_nested_brackets_are_not_json_and_do_not_fail() -> None:
    assert requested_form("Answer in JSON.", "[" * 200_000) == 0.0


QUESTIONS = "1. What comes first?\n2. Who decides?\n3. When do we meet?"


@pytest.mark.parametrize(
    ("instruction", "response", "expected"),
    [
        ("Give me three questions for the meeting.", QUESTIONS, 1.0),
        ("Give me three questions for the meeting.", f"{QUESTIONS} {SENTENCE * 10}", 19 / 123),
        ("Suggest at least 3 good questions.", QUESTIONS, 1.0),
        ("Write a list of three questions.", QUESTIONS, 1.0),
        ("List six questions.", QUESTIONS, 1 / 2),
        ("What are 2 questions to ask?", QUESTIONS.replace("\n", "\n\n"), 4 / 9),
        ("Name three questions.", f"{QUESTIONS}\n\n" + "It is good to ask. " * 2, 0.5),
        ("Name three questions.", "It is good to ask a lot." + f"\n\n{QUESTIONS}", 10 / 17),
        ("List two ideas.", "- **Tea**\n  - green\n  - black\n- **Milk**\n  - cold", 1.0),
        ("List two ideas.", "### 1. Tea\nIt is hot.\n### 2. Milk\nIt is cold.", 1.0),
    ],
)
def test_a_list_is_compared_with_the_requested_number(instruction: str, response: str, expected: float) -> None:
    assert requested_items(instruction, response) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("instruction", "response"),
    [
        ("Which questions should I ask?", QUESTIONS),
        ("Give me three sentences about it.", QUESTIONS),
        ("Write a function that takes two numbers.", QUESTIONS),
        ("Give me 20 minutes of exercises.", QUESTIONS),
        ("Give me three questions.", SENTENCE),
        ("Give me three questions.", ""),
    ],
)
def test_without_a_request_or_a_list_there_is_nothing_to_count(instruction: str, response: str) -> None:
    assert requested_items(instruction, response) is None
