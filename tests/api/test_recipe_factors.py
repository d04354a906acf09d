"""Recipes of an operator with transforms, features that do not apply, and sentences, through the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from reward_client.wire import Info
from reward_service.app import create_app
from reward_service.settings import Settings
from tests.api.conftest import wait_until_loaded
from tests.doubles import LengthGold, LetterEncoder
from tests.plugins import install_plugin

Start = Callable[[str], TestClient]

DIGITS = """
def _match(inputs):
    if inputs.reference is None or not inputs.reference.isdigit():
        return None
    return float(inputs.reference in inputs.words)

def _flags(inputs):
    return ["reference_number"] if (inputs.reference or "").isdigit() else []

FEATURE = feature("digits_match", ResponseText, _match, flags=_flags, applies_to="reference")
"""


@pytest.fixture
def start(tmp_path: Path, encoder: LetterEncoder, gold: LengthGold) -> Iterator[Start]:
    """Starts a service with the given text of a recipe, `mine`, as its default."""
    with ExitStack() as stack:

        def started(recipe: str) -> TestClient:
            (tmp_path / "mine.yaml").write_text(recipe)
            settings = Settings(recipes_dir=tmp_path, default_recipe="mine")
            app = create_app(settings, encoder_loader=lambda _: encoder, gold_loader=lambda _: gold)
            client = stack.enter_context(TestClient(app, "http://localhost", raise_server_exceptions=False))
            wait_until_loaded(client)
            encoder.calls.clear()
            return client

        yield started


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in that compares numbers, and applies to references that are numbers."""
    install_plugin(tmp_path, monkeypatch, "gbx_digits", DIGITS)


def score(service: TestClient, *items: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    reply = service.post("/score", json={"items": items, **body})
    assert reply.status_code == 200, reply.text
    results: list[dict[str, Any]] = reply.json()["results"]
    return results


def embedded(encoder: LetterEncoder) -> set[str]:
    """The texts that the encoder has read."""
    return {text for call in encoder.calls for text in call}


SHAPED = """
open_ended:
  - {feature: length_incentive, saturate: 0.05}
  - {feature: repetition_penalty, power: 2}
  - {feature: query_relevance, gate: [0.1, 0.5]}
closed_ended: [reference_relevance]
"""


def test_a_reward_is_the_product_of_the_transformed_features(start: Start) -> None:
    items = [{"prompt": "abc", "response": text} for text in ("abc x", "ab xy xy xy xy xy xy")]
    short, looped = score(start(SHAPED), *items)

    assert short["features"]["length_incentive"] == 0.02
    assert short["reward"] == pytest.approx(0.02 / 0.05)
    f = looped["features"]
    gate = (f["query_relevance"] - 0.1) / 0.4
    assert 0 < gate < 1
    assert f["length_incentive"] > 0.05
    assert looped["reward"] == pytest.approx(f["repetition_penalty"] ** 2 * gate)


def test_info_describes_factors_and_the_formula(start: Start) -> None:
    info = Info.model_validate(start(SHAPED).get("/info").json())
    (mine,) = [recipe for recipe in info.recipes if recipe.name == "mine"]

    assert mine.parameters["open_ended"][1] == {"feature": "repetition_penalty", "power": 2.0}
    assert mine.parameters["closed_ended"] == ["reference_relevance"]
    assert mine.reward_range == (0.0, 1.0)
    assert mine.formula == {
        "open_ended": "min(length_incentive / 0.05, 1) × repetition_penalty^2 × "
        "gate(max(query_relevance, 0), 0.1, 0.5)",
        "closed_ended": "max(reference_relevance, 0)",
    }


def test_factors_can_be_overridden_in_a_request_and_in_a_url(start: Start) -> None:
    service = start(SHAPED)
    item = {"prompt": "abc", "response": "abc x"}
    factors = [{"feature": "length_incentive", "saturate": 0.04}]
    (result,) = score(service, item, recipe_overrides={"open_ended": factors})
    sample = {"query": "abc abc x", "prompts": "abc "}
    url = '/get_reward?open_ended=[{"feature":"length_incentive","saturate":0.04}]'

    assert result["reward"] == pytest.approx(0.5)
    assert service.post(url, json=sample).json()["rewards"] == pytest.approx([0.5])

    wrong = service.post(
        "/score", json={"items": [item], "recipe_overrides": {"open_ended": [{"feature": "lenth"}]}}
    )
    assert wrong.status_code == 422
    (error,) = wrong.json()["errors"]
    assert error["field"] == "recipe_overrides.open_ended.0.feature"


NUMBERS = """
open_ended: [length_incentive]
closed_ended:
  - {feature: digits_match, otherwise: {feature: reference_relevance, power: 2}}
"""
NUMBER = {"prompt": "17 x 23?", "response": "It is 391", "reference": "391", "query_type": "closed_ended"}
TEXT = {"prompt": "Who?", "response": "aab", "reference": "ab", "query_type": "closed_ended"}


@pytest.mark.usefixtures("digits")
def test_another_factor_is_used_where_a_feature_does_not_apply(start: Start, encoder: LetterEncoder) -> None:
    number, text = score(start(NUMBERS), NUMBER, TEXT)

    assert (number["reward"], number["features"]["digits_match"]) == (1.0, 1.0)
    assert number["features"]["reference_relevance"] is None
    assert text["features"]["digits_match"] is None
    assert text["features"]["reference_relevance"] == pytest.approx(0.9**0.5)
    assert text["reward"] == pytest.approx(0.9)
    assert embedded(encoder) == {"aab", "ab"}


@pytest.mark.usefixtures("digits")
def test_flags_of_a_feature_are_those_of_the_item(start: Start) -> None:
    assert [result["flags"] for result in score(start(NUMBERS), NUMBER, TEXT)] == [["reference_number"], []]


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(
    ("item", "message"),
    [
        (TEXT, "is of a kind that the feature digits_match does not apply to"),
        ({"prompt": "Who?", "response": "aab"}, "is needed by the feature digits_match"),
    ],
)
def test_an_item_that_a_needed_feature_does_not_apply_to_is_invalid(
    start: Start, item: dict[str, Any], message: str
) -> None:
    service = start("open_ended: [digits_match]\nclosed_ended: [digits_match]\n")
    refused = service.post("/score", json={"items": [NUMBER, item]})
    good, bad = score(service, NUMBER, item, on_item_error="report")

    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["field"] == "items.1.reference"
    assert message in error["message"]
    assert (good["reward"], bad["reward"], bad["error"]["field"]) == (1.0, None, "reference")


def test_a_relevance_of_an_item_without_reference_can_be_replaced(start: Start) -> None:
    recipe = "[{feature: reference_relevance, otherwise: query_relevance}]"
    service = start(f"open_ended: {recipe}\nclosed_ended: {recipe}\n")
    item = {"prompt": "abc", "response": "abc"}
    without, with_reference = score(service, item, item | {"reference": "xyz", "query_type": "open_ended"})

    assert (without["reward"], with_reference["reward"]) == (pytest.approx(1.0), 0.0)


def test_only_a_feature_of_the_text_may_have_no_value(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(
        tmp_path, monkeypatch, "gbx_none", "FEATURE = feature('none', PromptVectors, lambda inputs: None)"
    )
    service = start("open_ended: [none]\nclosed_ended: [none]\n")
    (result,) = score(service, {"prompt": "a", "response": "b"}, on_item_error="report")

    assert "feature none has no value" in result["error"]["message"]


NOVEL = """
open_ended: [semantic_novelty]
closed_ended: [semantic_novelty]
"""


def test_semantic_novelty_compares_the_sentences_of_a_response(start: Start, encoder: LetterEncoder) -> None:
    texts = ["Ab. Ba! Cd.", "Ab. Cd. Ef.", "Ab.", "Ab. AB\nba"]
    results = score(start(NOVEL), *({"prompt": "x", "response": text} for text in texts))

    assert [result["reward"] for result in results] == pytest.approx([1 / 3, 1.0, 1.0, 0.0])
    assert {"Ab.", "Ba!", "Cd.", "Ef.", "AB", "ba"} == embedded(encoder)


def test_sentences_are_embedded_only_for_recipes_that_compare_them(start: Start, encoder: LetterEncoder) -> None:
    score(start(NOVEL), {"prompt": "abc", "response": "Ab. Ba."}, recipe="rer")

    assert embedded(encoder) == {"abc", "Ab. Ba."}


def test_the_sentences_of_one_response_that_are_embedded_are_bounded(start: Start, encoder: LetterEncoder) -> None:
    letters = "abcdefghij"
    text = " ".join(f"Q{a}{b}." for a in letters for b in letters)
    (result,) = score(start(NOVEL), {"prompt": "x", "response": text})

    assert 0 < result["reward"] < 1
    assert len(embedded(encoder)) == 64


def test_a_request_with_too_many_sentences_is_too_large(start: Start) -> None:
    text = " ".join(f"Q{n}." for n in range(64))
    items = [{"prompt": "x", "response": text}] * 1025
    service = start(NOVEL)
    reply = service.post("/score", json={"items": items})

    assert reply.status_code == 413
    assert "more than 65536 sentences" in reply.json()["detail"]
    assert service.post("/score", json={"items": items[1:]}).status_code == 200


def test_an_empty_response_needs_no_sentences(start: Start) -> None:
    (zero,) = score(start(NOVEL), {"prompt": "x", "response": " "})
    (kept,) = score(start(NOVEL), {"prompt": "x", "response": " "}, recipe_overrides={"empty_is_zero": False})

    assert (zero["reward"], kept["reward"]) == (0.0, 1.0)


MATCHED = """
open_ended: [length_incentive]
closed_ended:
  - {feature: reference_match, otherwise: {feature: reference_relevance, power: 2}}
"""


def test_verified_answers_earn_all_or_nothing_and_free_text_by_similarity(start: Start) -> None:
    product = {"prompt": "What is 17 × 23?", "reference": "391", "query_type": "closed_ended"}
    sentence = "It depends on how large the pot is, and on the water in it."
    free = {
        "prompt": "How long?",
        "reference": sentence,
        "response": "It is one pot",
        "query_type": "closed_ended",
    }
    responses = ("391", "17 × 23 = 391", "three hundred and ninety-one", "381", "The answer is 392.", "391 or 392")
    *numbers, text = score(start(MATCHED), *({**product, "response": response} for response in responses), free)

    assert [result["reward"] for result in numbers] == [1, 1, 1, 0, 0, 0]
    assert all("reference_number" in result["flags"] for result in numbers)
    assert text["features"]["reference_match"] is None
    assert text["reward"] == pytest.approx(text["features"]["reference_relevance"] ** 2)
    assert not any(flag.startswith("reference_") for flag in text["flags"])


def test_a_reference_of_free_text_is_an_error_of_a_recipe_that_only_verifies(start: Start) -> None:
    service = start("open_ended: [length_incentive]\nclosed_ended: [reference_match]\n")
    item = {"prompt": "Why?", "reference": "Because it is hot. It is summer.", "response": "Heat."}
    reply = service.post("/score", json={"items": [{**item, "query_type": "closed_ended"}]})

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "items.0.reference"
