"""What drove the reward, on made-up runs whose cause is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from reward_client.wire import QueryType
from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.statistics.assessment import Assessment
from reward_evidence.statistics.brevity import asks_for_brevity
from reward_evidence.statistics.circumstances import Circumstances
from reward_evidence.statistics.monotonicity import Verdict
from reward_evidence.statistics.shapley import align, shapley_parts
from reward_evidence.statistics.summary import RunFigures
from reward_evidence.statistics.verdict import VerdictText, write_verdict
from reward_service.features.attribution import shapley_parts as shapley_parts_of_one
from tests.unit.evidence_run import evaluated_response, figures, unit_noise

N_PROMPTS = 80
LABELS = {"length_incentive": "Length incentive", "query_relevance": "Query relevance"}

Responses = list[EvaluatedResponse]
Truth = Callable[[int, float], dict[str, float]]
"""Prompt and training progress in [0, 1] → words, relevance, and gold without noise."""


def noise(prompt: int, *parts: object) -> float:
    """A number between -1 and 1, the same in every run."""
    return max(-1.0, min(1.0, 0.5 * unit_noise(prompt, *parts)))


def checkpoint(truth: Truth, progress: float, *, samples: int = 1, prompt: str = "Why?") -> Responses:
    return [
        one(f"p{p:03}", i, truth(p, progress), noise(p, i), noise(p, i, progress), prompt)
        for p in range(N_PROMPTS)
        for i in range(samples)
    ]


def one(
    prompt_id: str, sample: int, true: dict[str, float], of_prompt: float, new: float, prompt: str
) -> EvaluatedResponse:
    n_words = max(1, round(true["words"]))
    factors = {
        "length_incentive": n_words / 100,
        "repetition_penalty": 0.95 + 0.02 * of_prompt,
        "query_relevance": true["relevance"],
    }
    return evaluated_response(
        prompt_id,
        factors,
        sample=sample,
        gold=true["gold"] + 0.05 * new,
        prompt=prompt,
        response=" ".join(["word"] * n_words),
        truncated=n_words >= true.get("limit", 1000),
    )


def verdict(found: RunFigures, *notices: str, recipe: str = "rer") -> VerdictText:
    circumstances = Circumstances(
        recipe, (1, 1), temperature=0.7, max_new_tokens=128, notices=notices, labels=LABELS
    )
    return write_verdict(found.checkpoints, found.trend, found.query_types, circumstances)


def run(truth: Truth, **options: Any) -> RunFigures:
    return figures(checkpoint(truth, 0.0, **options), checkpoint(truth, 1.0, **options))


# -- made-up runs


def only_length_grew(prompt: int, progress: float) -> dict[str, float]:
    """Every word adds 0.01 to gold; answers of different prompts grow by different amounts."""
    words = 40 + 20 * noise(prompt) + progress * (40 + 35 * noise(prompt, "growth"))
    return {"words": words, "relevance": 0.5 + 0.2 * noise(prompt, "r"), "gold": noise(prompt, "g") + 0.01 * words}


def only_relevance_grew(prompt: int, progress: float) -> dict[str, float]:
    relevance = 0.4 + 0.1 * noise(prompt, "r") + 0.2 * progress
    words = 60 + 20 * noise(prompt) + 6 * noise(prompt, progress)
    return {"words": words, "relevance": relevance, "gold": noise(prompt, "g") + 3 * relevance}


def gold_was_hacked(prompt: int, progress: float) -> dict[str, float]:
    true = only_length_grew(prompt, progress)
    return {**true, "gold": noise(prompt, "g") - 0.6 * progress}


def nothing_changed(prompt: int, progress: float) -> dict[str, float]:
    words = 60 + 20 * noise(prompt) + 6 * noise(prompt, progress)
    return {**only_length_grew(prompt, 0.0), "words": words}


def test_a_run_in_which_only_length_grew_says_so() -> None:
    found = run(only_length_grew)
    text = verdict(found)
    drivers = found.trend.drivers
    assert drivers is not None
    assert drivers.gold_at_equal_length is not None
    assert text.headline == "The gold reward rose, but not at equal length; 100 % of the proxy gain is length"
    assert text.assessment is Assessment.QUALIFIED
    assert drivers.parts[0].name == "length_incentive"
    assert drivers.gold_at_equal_length.verdict is Verdict.UNDECIDED
    assert drivers.gold_at_equal_length.slope == pytest.approx(0.01, abs=0.002)
    assert any("mediator" in finding for finding in text.findings)


def test_a_run_in_which_only_relevance_grew_is_supported() -> None:
    found = run(only_relevance_grew)
    text = verdict(found)
    assert text.headline.startswith("The gold reward rose; ")
    assert text.headline.endswith("% of the proxy gain is query relevance")
    assert text.assessment is Assessment.SUPPORTED
    assert not text.qualifications
    drivers = found.trend.drivers
    assert drivers is not None
    assert drivers.gold_at_equal_length is not None
    assert drivers.gold_at_equal_length.mean == pytest.approx(0.6, abs=0.05)


def test_a_hacked_proxy_contradicts_the_claim() -> None:
    found = run(gold_was_hacked)
    text = verdict(found)
    assert text.headline == (
        "The gold reward fell while the reward that was trained on rose; 100 % of the proxy gain is length"
    )
    assert text.assessment is Assessment.CONTRADICTED
    assert found.trend.drivers is not None
    assert found.trend.drivers.gold_wins is not None
    assert found.trend.drivers.gold_wins.high < 0.1


def test_an_unchanged_run_has_no_cause() -> None:
    found = run(nothing_changed)
    text = verdict(found)
    assert text.headline == "The gold reward: undecided, and so is the proxy reward"
    assert text.assessment is Assessment.UNDECIDED
    drivers = found.trend.drivers
    assert drivers is not None
    assert all(part.share is None for part in drivers.parts)


def test_a_control_whose_responses_stay_the_same_did_not_change() -> None:
    first = checkpoint(only_length_grew, 0.0)

    assert verdict(figures(first, first)).headline == "The gold reward did not change, nor did the proxy reward"


def test_with_a_demo_gold_model_no_rise_is_supported() -> None:
    text = verdict(run(only_relevance_grew), "demo model, not a judge of quality")
    assert text.assessment is Assessment.QUALIFIED
    assert text.qualifications == ["The gold model is a demo model."]


def shared(*models: str) -> list[str]:
    text = (
        "the gold model g is fitted on b, which is also the {}: where they agree, that is not independent evidence"
    )
    return [text.format(model) for model in models]


@pytest.mark.parametrize(
    ("notices", "qualifications", "sentence"),
    [
        (
            shared("policy"),
            ["The gold model shares its base with the policy."],
            "its base with the policy: this is",
        ),
        (
            shared("relevance encoder", "policy"),
            [
                "The gold model shares its base with the relevance encoder.",
                "The gold model shares its base with the policy.",
            ],
            "its base with the relevance encoder and the policy: this is",
        ),
    ],
)
def test_a_gold_model_on_the_base_of_the_policy_supports_nothing(
    notices: list[str], qualifications: list[str], sentence: str
) -> None:
    text = verdict(run(only_relevance_grew), *notices)
    assert text.assessment is Assessment.QUALIFIED
    assert text.qualifications == qualifications
    assert sentence in text.sentence


@pytest.mark.parametrize("names", [("content_words",), ("content_words", "requested_length")])
def test_a_run_in_which_only_content_words_grew_says_that_it_is_the_amount_of_text(names: tuple[str, ...]) -> None:
    def rows(progress: float) -> Responses:
        """The default recipe's factors; the last responses to three of four prompts have the last of `names`."""
        last = names[-1] if progress else names[0]
        return [
            evaluated_response(
                row.prompt_id,
                {
                    (last if p % 4 else names[0]): row.factors["length_incentive"] / 2,
                    "query_relevance": row.factors["query_relevance"],
                },
                gold=noise(p, "g") + progress + 0.1 * noise(p, progress),
                response=row.response,
            )
            for p, row in enumerate(checkpoint(only_length_grew, progress))
        ]

    text = verdict(figures(rows(0.0), rows(1.0)))
    assert "of the proxy gain is amount of text" in text.headline
    assert text.assessment is Assessment.QUALIFIED
    assert text.qualifications == ["The amount of text is at least half of the proxy gain."]


def gold_and_proxy_fell(prompt: int, progress: float) -> dict[str, float]:
    return only_relevance_grew(prompt, 1 - progress)


def only_gold_fell(prompt: int, progress: float) -> dict[str, float]:
    return {**nothing_changed(prompt, progress), "gold": noise(prompt, "g") - 0.6 * progress}


@pytest.mark.parametrize(
    ("truth", "headline", "qualification"),
    [
        (gold_and_proxy_fell, "fell, and so did the reward that was trained on; ", "fell together"),
        (only_gold_fell, "The gold reward fell; the proxy reward: undecided", "did not rise"),
    ],
)
def test_a_fall_of_gold_without_a_rise_of_the_proxy_does_not_test_the_claim(
    truth: Truth, headline: str, qualification: str
) -> None:
    text = verdict(run(truth))
    assert headline in text.headline
    assert text.assessment is Assessment.UNDECIDED
    (sentence,) = text.qualifications
    assert qualification in sentence
    assert "the claim was not tested" in sentence


def test_a_proxy_that_is_the_gold_reward_supports_nothing() -> None:
    text = verdict(run(only_relevance_grew), recipe="gold")
    assert text.assessment is Assessment.QUALIFIED
    assert text.qualifications == ["The proxy is the gold reward itself."]


def test_half_of_a_loss_is_not_called_a_gain() -> None:
    def shorter_and_better(prompt: int, progress: float) -> dict[str, float]:
        return {**only_length_grew(prompt, 1 - progress), "gold": noise(prompt, "g") + progress}

    text = verdict(run(shorter_and_better))
    assert text.headline.endswith("of the proxy loss is length")
    assert not any("proxy gain" in sentence for sentence in text.qualifications)


def test_two_factors_that_share_the_gain_are_both_named() -> None:
    def both(prompt: int, progress: float) -> dict[str, float]:
        relevance = only_relevance_grew(prompt, progress)["relevance"]
        return {**only_length_grew(prompt, 0.4 * progress), "relevance": relevance, "gold": progress}

    headline = verdict(run(both)).headline

    assert " of the proxy gain is " in headline
    assert "length" in headline
    assert "query relevance" in headline


# -- parts


def test_parts_sum_to_the_change_of_the_proxy() -> None:
    for truth in (only_length_grew, only_relevance_grew, gold_was_hacked, nothing_changed):
        for samples in (1, 3):
            trend = run(truth, samples=samples).trend
            assert trend.drivers is not None
            assert trend.proxy_change is not None
            total = math.fsum(part.part for part in trend.drivers.parts)
            assert total == pytest.approx(trend.proxy_change.mean, abs=1e-9)


def test_the_interval_of_a_part_contains_it_and_is_that_of_a_resampled_mean() -> None:
    trend = run(only_length_grew).trend
    assert trend.drivers is not None
    assert trend.proxy_change is not None
    length = trend.drivers.parts[0]
    assert length.low is not None
    assert length.high is not None
    assert trend.proxy_change.low is not None
    assert length.low < length.part < length.high
    assert length.low == pytest.approx(trend.proxy_change.low, abs=0.01)  # it is the whole change


@pytest.mark.parametrize("n_factors", [1, 2, 3, 6, 11])
def test_parts_of_many_products_are_those_of_each(n_factors: int) -> None:
    random = np.random.default_rng(n_factors)
    first, last = random.uniform(0, 2, (2, 7, n_factors))
    parts = shapley_parts(first, last)
    expected = [shapley_parts_of_one(b, a) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    assert parts == pytest.approx(np.array(expected))
    assert parts.sum(axis=1) == pytest.approx(last.prod(axis=1) - first.prod(axis=1), abs=1e-9)


@pytest.mark.parametrize(
    ("first", "last", "names"),
    [
        ({"a": 0.5, "b": 0.2}, {"a": 0.7, "b": 0.3}, ["a", "b"]),
        ({"a": 0.5, "b": 0.2}, {"c": 0.7, "b": 0.3}, ["a or c", "b"]),
        ({"a": 0.5, "b": 0.2}, {"b": 0.7, "a": 0.3}, ["a", "b"]),
        ({"empty": 0.0}, {"a": 0.7, "b": 0.3}, ["empty", "a", "b"]),
        ({"a": 0.7, "b": 0.3}, {"empty": 0.0, "constant": 1.28}, ["a", "b", "empty", "constant"]),
        ({"empty": 0.0}, {"a": 0.7}, ["empty", "a"]),
        ({"empty": 0.0}, {"empty": 0.0}, ["empty"]),
    ],
)
def test_factors_that_replace_each_other_are_one(
    first: dict[str, float], last: dict[str, float], names: list[str]
) -> None:
    aligned = align(first, last)
    assert list(aligned) == names
    assert math.prod(a for a, _ in aligned.values()) == pytest.approx(math.prod(first.values()))
    assert math.prod(b for _, b in aligned.values()) == pytest.approx(math.prod(last.values()))


def test_a_run_that_stopped_answering_nothing_names_the_empty_responses() -> None:
    first = [evaluated_response(f"p{i}", {"empty": 0.0}, gold=-1.0, response="") for i in range(20)]
    last = [
        evaluated_response(f"p{i}", {"length_incentive": 0.9, "query_relevance": 0.9}, gold=1.0 + i % 3)
        for i in range(20)
    ]
    text = verdict(figures(first, last))
    assert "of the proxy gain is fewer empty responses" in text.headline
    assert text.assessment is Assessment.QUALIFIED
    assert "Fewer empty responses are at least half of the proxy gain." in text.qualifications
    assert "of the proxy loss is more empty responses" in verdict(figures(last, first)).headline


def test_the_parts_of_a_query_type_are_those_of_its_prompts() -> None:
    def typed(progress: float) -> Iterator[EvaluatedResponse]:
        for i, row in enumerate(checkpoint(only_length_grew, progress)):
            yield row if i % 2 else row.model_copy(update={"query_type": QueryType.CLOSED_ENDED})

    found = figures(list(typed(0.0)), list(typed(1.0)))

    for trend in (found.trend, *found.query_types.values()):
        assert trend.drivers is not None
        assert trend.proxy_change is not None
        total = math.fsum(part.part for part in trend.drivers.parts)
        assert total == pytest.approx(trend.proxy_change.mean, abs=1e-9)


# -- diagnostics


def test_gold_at_equal_truncation_removes_what_goes_with_truncation() -> None:
    def cut(prompt: int, progress: float) -> dict[str, float]:
        is_cut = noise(prompt, "cut") < progress - 0.5
        return {
            "words": 120 if is_cut else 60,
            "limit": 90,
            "relevance": 0.5,
            "gold": noise(prompt, "g") - 0.8 * is_cut,
        }

    drivers = run(cut).trend.drivers

    assert drivers is not None
    assert drivers.gold_at_equal_truncation is not None
    assert drivers.gold_at_equal_truncation.verdict is Verdict.UNDECIDED
    assert drivers.gold_at_equal_truncation.slope == pytest.approx(-0.8, abs=0.1)


def test_without_a_change_of_truncation_gold_at_equal_truncation_is_the_gold_change() -> None:
    trend = run(only_relevance_grew).trend
    assert trend.drivers is not None
    assert trend.drivers.gold_at_equal_truncation is not None
    assert trend.gold_change is not None
    assert trend.drivers.gold_at_equal_truncation.mean == trend.gold_change.mean
    assert trend.drivers.gold_at_equal_truncation.slope is None


def test_the_same_growth_of_all_answers_cannot_be_separated_from_gold() -> None:
    first = [evaluated_response(f"p{i}", {"a": 0.5}, gold=float(i), response="one two") for i in range(20)]
    last = [evaluated_response(f"p{i}", {"a": 0.6}, gold=i + 1.0, response="one two three") for i in range(20)]
    found = figures(first, last)
    text = verdict(found)

    assert found.trend.drivers is not None
    assert found.trend.drivers.gold_at_equal_length is not None
    assert found.trend.drivers.gold_at_equal_length.mean is None
    assert text.headline.startswith("The gold reward rose, but it cannot be told at equal length")
    assert text.assessment is Assessment.QUALIFIED
    assert "Whether gold rose cannot be told at equal length: it changed for every prompt." in text.qualifications
    assert any("gold cannot be told at equal length" in finding for finding in text.findings)


def test_a_gain_of_answers_that_are_all_no_longer_cut_cannot_be_separated_from_that() -> None:
    def cut(prompt: int, progress: float) -> dict[str, float]:
        relevance = 0.4 + 0.1 * noise(prompt, "r") + 0.2 * progress
        gold = noise(prompt, "g") + 3 * relevance
        return {
            "words": 60 + 3 * noise(prompt, progress),
            "relevance": relevance,
            "gold": gold,
            "limit": 500 * progress,
        }

    text = verdict(run(cut))

    assert text.assessment is Assessment.QUALIFIED
    assert text.qualifications == [
        "Whether gold rose cannot be told at equal truncation: it changed for every prompt."
    ]


def test_ties_are_half_a_win_and_samples_are_compared_each_with_each() -> None:
    first = [evaluated_response("p", {"a": 0.5}, gold=g, sample=i) for i, g in enumerate((0.0, 1.0))]
    last = [evaluated_response("p", {"a": 0.5}, gold=g, sample=i) for i, g in enumerate((1.0, 2.0))]
    drivers = figures(first, last).trend.drivers
    assert drivers is not None
    assert drivers.gold_wins is not None
    assert drivers.gold_wins.rate == pytest.approx((1 + 0.5 + 1 + 1) / 4)


def test_the_share_of_the_prompts_that_ask_for_brevity() -> None:
    def mixed(progress: float) -> Responses:
        rows = checkpoint(only_length_grew, progress)
        return [
            r.model_copy(update={"prompt": "Why? In one sentence."}) if i < 20 else r for i, r in enumerate(rows)
        ]

    first, last = mixed(0.0), mixed(1.0)
    found = figures(first, last)
    drivers = found.trend.drivers

    assert drivers is not None
    assert drivers.brevity is not None
    gains = [b.proxy_reward - a.proxy_reward for a, b in zip(first, last, strict=True)]
    assert drivers.brevity.n_prompts == 20
    assert drivers.brevity.share == pytest.approx(sum(gains[:20]) / sum(gains))
    assert any("20 prompts that ask for a brief answer" in finding for finding in verdict(found).findings)


def test_without_gold_the_split_of_the_proxy_remains() -> None:
    first, last = (
        [row.model_copy(update={"gold_reward": None}) for row in checkpoint(only_length_grew, progress)]
        for progress in (0.0, 1.0)
    )
    found = figures(first, last)
    text = verdict(found)
    assert text.headline == "Gold was not measured; 100 % of the proxy gain is length"
    assert text.assessment is None
    assert found.trend.drivers is not None
    assert found.trend.drivers.gold_at_equal_length is None
    assert found.trend.drivers.gold_wins is None


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Describe the water cycle in one sentence.", True),
        ("Why? Answer in two or three sentences.", True),
        ("Summarise it in at most 50 words.", True),
        ("What is a jury? Be brief.", True),
        ("Give a short answer: why does it rain?", True),
        ("Two sentences are enough. Why is it dark?", False),
        ("Name one risk. One sentence is enough.", True),
        ("Write at least two sentences about bees.", False),
        ("List 20 words that rhyme with house.", False),
        ("Write a short story about a lighthouse.", False),
        ("Write an essay of 300 words.", False),
        ("Correct the sentence.", False),
        ("Explain how vaccines work in five paragraphs.", False),
        ("x " * 2000 + "In one sentence.", True),
    ],
)
def test_prompts_that_ask_for_brevity(prompt: str, expected: bool) -> None:
    assert asks_for_brevity(prompt) is expected
