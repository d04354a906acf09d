"""The classifier of query types: cues of prompts, its answers, and the files that it is fitted on."""

from __future__ import annotations

import json

import pytest

from reward_client.query_types.classifier import embedded_classifier
from reward_client.query_types.cues import MAX_CHARS, features
from reward_client.wire import QueryType
from tests.conftest import ROOT
from tests.cost import assert_at_most, assert_in_proportion
from tools import query_types

OPEN, CLOSED = QueryType.OPEN_ENDED, QueryType.CLOSED_ENDED


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Write a ballad about two rival lighthouses.", OPEN),
        ("Suggest a hobby for someone who likes numbers.", OPEN),
        ("How can I be a better neighbour?", OPEN),
        ("Please could you write a poem about trams?", OPEN),
        ("Who was the first woman in space?", CLOSED),
        ("Calculate 14% of 250.", CLOSED),
        ("Translate the sentence into Polish.\n\n### Input:\nThe tram is late.", CLOSED),
        ("Classify the sentiment of the text.\n\n### Input:\nWrite a poem? Never again, what a bore.", CLOSED),
        ("Which is heavier?\nA) iron\nB) wood", CLOSED),
    ],
)
def test_clear_prompts(prompt: str, expected: QueryType) -> None:
    guess = embedded_classifier().guess(prompt)

    assert guess is not None
    assert guess.query_type is expected
    assert 0.5 <= guess.confidence <= 1


def test_words_of_the_input_text_are_no_features_of_the_instruction() -> None:
    found = features("Correct the text.\n\n### Input:\nwrite a poem")

    assert "w:poem" not in found
    assert {"first:correct", "cue:exact_verb", "cue:input"} <= found


def test_polite_words_do_not_hide_the_first_word() -> None:
    assert "first:translate" in features("Hi, could you please translate this?")


@pytest.mark.parametrize("prompt", ["", " \n", "?!", "🙂🙂", "\u200b"])
def test_a_prompt_without_text_has_no_query_type(prompt: str) -> None:
    assert embedded_classifier().guess(prompt) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "a " * 100_000,
        "please " * 30_000,
        "_" * 200_000,
        "A) " * 60_000,
        "\n\n" * 100_000 + "x",
        "1+" * 100_000,
        "a(" * 100_000,
        "A) x\n" * 50_000,
        "文" * 200_000,
    ],
)
def test_a_hostile_prompt_costs_no_more_than_what_is_read_of_it(prompt: str) -> None:
    classifier, first = embedded_classifier(), prompt[:MAX_CHARS]

    assert_at_most(2, lambda: classifier.guess(prompt), lambda: classifier.guess(first))
    assert_in_proportion(classifier.guess, first)
    assert features(prompt) == features(prompt[:MAX_CHARS])


def test_the_weights_are_small_and_fitted_on_nothing_but_our_own_prompts() -> None:
    assert query_types.MODEL.stat().st_size <= 200_000
    assert all(ROOT in source.parents for source in query_types.SOURCES)
    assert not [source for source in query_types.SOURCES if "shared" in source.parts]


def test_the_same_prompts_give_the_weights_of_the_package() -> None:
    """The strength that the cross-validation chose is in the card; fitting takes about two seconds."""
    card = (query_types.MODEL.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    strength = next(value for value in query_types.STRENGTHS if f"strength {value}" in card)

    assert query_types.fit(query_types.own_prompts(), strength) == embedded_classifier()


def test_our_prompts_are_labelled_once_and_of_both_types() -> None:
    path = ROOT / "tools/query_type_prompts/prompts.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    assert len({row["prompt"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)
    assert min([row["query_type"] for row in rows].count(kind) for kind in QueryType) > 150


def test_accuracy_on_labelled_rows_that_it_was_not_fitted_on() -> None:
    """2,000 labelled rows, CC BY-NC: measured on, never fitted on. Better than the naive baselines."""
    path = ROOT.parent / "shared/data/alpacafarm_val.json"
    if not path.is_file():
        pytest.skip("needs shared/data/alpacafarm_val.json")
    accuracy, *baselines = (line.split()[-3] for line in query_types.measured(path)[1:5])

    assert float(accuracy) > max(map(float, baselines)) + 0.1
