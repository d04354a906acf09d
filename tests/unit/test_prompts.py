"""The embedded prompts have the properties that their README describes."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from itertools import combinations

import pytest

from reward_client.wire import QueryType
from reward_runs.prompts import Part, Prompt, embedded_file, load_embedded

PARTS: tuple[Part, ...] = ("train", "heldout")
MAX_SIMILARITY = 0.45
"""Jaccard similarity from which two prompts count as near-duplicates; all pairs in the files are below it."""

BREVITY = re.compile(r"\b(brief|briefly|short|(?<!this )sentences?|few words|single|one-line)\b", re.IGNORECASE)
REQUESTS = {
    "long": re.compile(r"paragraphs|in detail|at least \d+ words"),
    "list": re.compile(r"\b(list|bullet(ed)?|table|one line for each)\b"),
    "words": re.compile(r"\d+ words"),
}
KINDS = {
    "option": re.compile(r"[A-D]"),
    "yes or no": re.compile(r"Yes|No"),
    "date": re.compile(r"\d{1,2} [A-Z][a-z]+ \d{4}"),
    "number": re.compile(r"\d[\d.:/]* ?[^\W\d]*[°C%/h]*"),
}
STOP_WORDS = re.compile(
    r"\b(a|an|and|are|as|at|be|by|can|could|do|does|for|from|give|has|have|how|i|if|in|into|is|its?|me|my|name|of|on|one"
    r"|or|should|so|some|somebody|someone|tell|that|the|their|they|to|was|what|when|where|which|who|why|with|would|your?)\b"
)


@pytest.fixture(scope="module")
def rows() -> list[Prompt]:
    return [row for part in PARTS for row in load_embedded(part)]


def kind_of(reference: str) -> str:
    """The kind of a reference: one of KINDS, a short text, or a sentence."""
    kind = next((name for name, pattern in KINDS.items() if pattern.fullmatch(reference)), None)
    return kind or ("short text" if len(reference.split()) < 5 else "sentence")


@cache
def subject(prompt: str) -> frozenset[str]:
    """The subject of a prompt: stems of the content words, without sentences that request brevity."""
    question, _, given = prompt.partition("### Input:")
    sentences = re.split(r"(?<=[.?!])\s+", question)
    kept = [sentence for sentence in sentences if not BREVITY.search(sentence)] or sentences
    words = re.findall(r"\w+", STOP_WORDS.sub(" ", " ".join([*kept, given]).lower()))
    return frozenset(word[:5] for word in words)


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of the subjects of two prompts."""
    a, b = subject(one), subject(other)
    return len(a & b) / len(a | b)


def near_duplicates(rows: list[Prompt]) -> list[tuple[str, str, float]]:
    pairs = ((a, b, similarity(a.prompt, b.prompt)) for a, b in combinations(rows, 2))
    return [(a.prompt, b.prompt, value) for a, b, value in pairs if value > MAX_SIMILARITY]


@pytest.mark.parametrize(("part", "at_least"), [("train", 190), ("heldout", 64)])
def test_each_part_is_large_enough_and_balanced(part: Part, at_least: int) -> None:
    rows = load_embedded(part)
    counts = Counter(row.query_type for row in rows)

    assert len(rows) >= at_least
    assert all(counts[query_type] >= 0.4 * len(rows) for query_type in QueryType)


def test_ids_are_unique_and_name_their_part(rows: list[Prompt]) -> None:
    assert len({row.id for row in rows}) == len(rows)
    assert all(row.id.startswith(f"{part}-") for part in PARTS for row in load_embedded(part))


def test_only_closed_ended_prompts_have_a_reference(rows: list[Prompt]) -> None:
    for row in rows:
        assert (row.reference is None) == (row.query_type is QueryType.OPEN_ENDED), row.id


@pytest.mark.parametrize("part", PARTS)
def test_references_are_numbers_options_yes_or_no_dates_short_texts_and_sentences(part: Part) -> None:
    references = [row.reference for row in load_embedded(part) if isinstance(row.reference, str)]
    kinds = Counter(kind_of(reference) for reference in references)

    assert set(kinds) == {*KINDS, "short text", "sentence"}
    assert max(kinds.values()) <= 0.4 * len(references)


@pytest.mark.parametrize("part", PARTS)
def test_every_line_has_the_documented_fields_and_none_is_blank(part: Part) -> None:
    for line in embedded_file(part).read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        texts = [value for value in fields.values() if value is not None]

        assert list(fields) == ["id", "prompt", "query_type", "reference", "topic"]
        assert all(text and text == text.strip() for text in texts), fields["id"]


@pytest.mark.parametrize("part", PARTS)
def test_the_files_are_clean_utf_8(part: Part) -> None:
    text = embedded_file(part).read_bytes().decode("utf-8")

    assert text.endswith("}\n")
    assert all(character.isprintable() for character in text.replace("\n", ""))


def test_at_most_a_fifth_of_the_prompts_requests_a_short_answer(rows: list[Prompt]) -> None:
    for part in PARTS:
        for query_type in QueryType:
            prompts = [row.prompt for row in load_embedded(part) if row.query_type is query_type]
            short = [prompt for prompt in prompts if BREVITY.search(prompt.partition("### Input:")[0])]

            assert 0 < len(short) <= 0.2 * len(prompts), short


@pytest.mark.parametrize("part", PARTS)
def test_some_open_ended_prompts_request_long_answers_lists_or_a_number_of_words_and_most_nothing(
    part: Part,
) -> None:
    prompts = [row.prompt for row in load_embedded(part) if row.query_type is QueryType.OPEN_ENDED]
    requests = {name: [p for p in prompts if pattern.search(p)] for name, pattern in REQUESTS.items()}
    without = [p for p in prompts if not any(pattern.search(p) for pattern in (BREVITY, *REQUESTS.values()))]

    assert all(found for found in requests.values()), requests
    assert len(without) >= 0.5 * len(prompts)


def test_topics_vary_in_both_parts(rows: list[Prompt]) -> None:
    for part in PARTS:
        topics = Counter(row.topic for row in load_embedded(part))

        assert len(topics) >= 15
        assert max(topics.values()) <= 0.1 * sum(topics.values())


def test_no_two_prompts_are_near_duplicates_between_or_inside_the_parts(rows: list[Prompt]) -> None:
    assert near_duplicates(rows) == []


@pytest.mark.parametrize(
    "paraphrase",
    [
        "Why does ice float on water? Be brief.",
        "Explain in one sentence: why does ice float on water?",
        "Reply in one short sentence. Why is ice floating on the water?",
    ],
)
def test_a_paraphrased_training_prompt_is_found(rows: list[Prompt], paraphrase: str) -> None:
    copy = Prompt(id="heldout-999", prompt=paraphrase, query_type=QueryType.OPEN_ENDED, topic="science")

    assert len(near_duplicates([*rows, copy])) == 1
