"""Figures and sentences in `evaluation.json` for known responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reward_client.wire.shared_base import shared_base_notice
from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.report.examples import choose_examples
from reward_evidence.report.formatting import decimals_for, interval, plain, signed
from reward_evidence.statistics.by_prompt import count_words
from reward_evidence.statistics.circumstances import Circumstances
from reward_evidence.statistics.monotonicity import Verdict
from reward_evidence.statistics.summary import RunFigures
from reward_evidence.statistics.verdict import VerdictText, write_verdict
from reward_trainer.gold.folder import NOTICES
from tests.unit.evidence_run import SHARED_NOTICE, Service, evaluated, evaluated_response, figures, make_run


def response(prompt_id: str, gold: float | None, *, sample: int = 0, **changes: Any) -> EvaluatedResponse:
    factors = {"gold": gold if gold is not None else 0.5}
    features = {"length_incentive": 0.05, "reference_relevance": None}
    given = {"sample": sample, "features": features, "kl": 0.0, "kl_k1": 0.0, **changes}
    return evaluated_response(prompt_id, factors, gold=gold, **given)


def verdict(found: RunFigures, *notices: str, recipe: str = "rer") -> VerdictText:
    circumstances = Circumstances(recipe, samples=(1, 1), temperature=0.7, max_new_tokens=128, notices=notices)
    return write_verdict(found.checkpoints, found.trend, found.query_types, circumstances)


def rows(offset: float, spread: float = 0.1, **changes: Any) -> list[EvaluatedResponse]:
    """Ten prompts that differ by whole numbers; `spread` alternates, so that changes have an interval."""
    return [response(f"p{i}", i + offset + spread * (-1) ** i, **changes) for i in range(10)]


def test_words_are_counted_as_the_length_incentive_counts_them() -> None:
    assert count_words("It's fine, isn't it?!  Ja.") == len(
        ["It", "'", "s", "fine", ",", "isn", "'", "t", "it", "?!", "Ja", "."]
    )


def test_two_samples_of_a_prompt_count_as_one_prompt() -> None:
    first = [response("a", 0.0), response("a", 2.0, sample=1), response("b", 4.0), response("b", 4.0, sample=1)]
    group = figures(first).checkpoints[0]
    assert (group.n_prompts, group.n_responses) == (2, 4)
    assert group.gold_reward is not None
    assert (group.gold_reward.mean, group.gold_reward.n) == (2.5, 2)


def test_responses_are_paired_by_prompt_in_any_order() -> None:
    trend = figures(rows(0.0, 0.0), rows(1.0, 0.0)[::-1]).trend
    assert trend.gold_change is not None
    assert trend.gold_change.mean == pytest.approx(1.0)
    assert trend.gold_change.low == pytest.approx(1.0)  # every prompt changed by the same amount


def test_a_feature_is_averaged_over_the_prompts_that_have_it() -> None:
    responses = [
        response("a", 0.0, features={"query_relevance": 0.2}),
        response("b", 0.0, features={"query_relevance": 0.4}),
        response("c", 0.0, features={"query_relevance": None}),
    ]
    feature = figures(responses).checkpoints[0].features["query_relevance"]
    assert feature.mean == pytest.approx(0.3)
    assert feature.n == 2


def test_shares_of_truncated_and_empty_responses() -> None:
    responses = [response("a", 0.0, truncated=True), response("b", 0.0, response=" "), *rows(0.0)[:2]]
    group = figures(responses).checkpoints[0]
    assert (group.truncated, group.empty) == (0.25, 0.25)


def test_opposite_trends_of_the_query_types_are_reported(tmp_path: Path) -> None:
    """The overall mean hides them, so every figure exists by type too."""
    service = Service(gold_slope={"open_ended": 0.08, "closed_ended": -0.08})
    evaluation = evaluated(make_run(tmp_path / "run"), service)
    by_type = {
        t.value: trend.gold_change.verdict for t, trend in evaluation.query_types.items() if trend.gold_change
    }
    assert by_type == {"open_ended": Verdict.ROSE, "closed_ended": Verdict.FELL}
    assert any("opposite directions" in caveat for caveat in evaluation.verdict.caveats)


def test_query_types_with_the_same_trend_have_no_such_caveat(tmp_path: Path) -> None:
    evaluation = evaluated(make_run(tmp_path / "run"))
    assert not any("opposite directions" in caveat for caveat in evaluation.verdict.caveats)


# -- sentences


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        (1.0, Verdict.ROSE, "rose by"),
        (-1.0, Verdict.FELL, "fell by"),
        (0.0, Verdict.UNDECIDED, "neither a rise nor a fall is shown"),
    ],
)
def test_the_sentence_follows_the_interval(change: float, outcome: Verdict, words: str) -> None:
    text = verdict(figures(rows(0.0), rows(change, -0.1)))
    assert text.outcome is outcome
    assert words in text.sentence
    assert "On 10 held-out prompts" in text.sentence
    assert "95 % interval" in text.sentence
    assert "one run with one seed" in text.sentence


def test_a_demo_gold_model_with_the_encoder_s_base_is_not_independent_evidence() -> None:
    text = verdict(figures(rows(0.0), rows(1.0)), "demo model, not a judge of quality", SHARED_NOTICE)
    assert "not independent evidence" in text.sentence
    assert text.headline == "The demo gold reward rose"


@pytest.mark.parametrize(
    ("gold", "proxy", "words"),
    [(1.0, -1.0, "rose while the reward that was trained on fell"), (-1.0, 1.0, "fell while"), (1.0, 1.0, "rose")],
)
def test_the_headline_states_that_gold_and_proxy_changed_in_opposite_directions(
    gold: float, proxy: float, words: str
) -> None:
    before = [response(f"p{i}", i + 0.1 * (-1) ** i, proxy_reward=float(i)) for i in range(10)]
    after = [
        response(f"p{i}", i + gold - 0.1 * (-1) ** i, proxy_reward=i + proxy + 0.1 * (-1) ** i) for i in range(10)
    ]

    headline = verdict(figures(before, after)).headline

    assert words in headline
    assert ("while" in headline) == (gold != proxy)


def test_a_real_gold_model_is_not_called_a_demo() -> None:
    text = verdict(figures(rows(0.0), rows(1.0)))
    assert "demo" not in text.sentence
    assert "independent" not in text.sentence


def test_without_gold_there_is_no_verdict_and_the_sentence_names_the_remedy() -> None:
    bare = [response(f"p{i}", None) for i in range(10)]
    text = verdict(figures(bare, bare))
    assert text.outcome is None
    assert text.headline == "Gold was not measured; the proxy reward did not change"
    assert "Start the service with a gold model" in text.sentence


def test_one_checkpoint_is_not_compared_with_itself() -> None:
    text = verdict(figures(rows(0.0)))
    assert text.outcome is None
    assert "Only step 0 was evaluated" in text.sentence


def test_an_unchanged_policy_has_an_unchanged_score() -> None:
    text = verdict(figures(rows(0.0), rows(0.0)))
    assert text.outcome is Verdict.UNDECIDED
    assert "The score of every prompt is unchanged." in text.sentence


def test_with_gold_as_the_proxy_their_agreement_is_by_construction() -> None:
    text = verdict(figures(rows(0.0), rows(1.0)), recipe="gold")
    assert any("by construction" in caveat for caveat in text.caveats)


def test_few_prompts_and_many_truncated_responses_are_caveats() -> None:
    text = " ".join(verdict(figures(rows(0.0), rows(1.0, truncated=True))).caveats)
    assert "Only 10 held-out prompts" in text
    assert "truncated at the token limit" in text


# -- examples


def test_examples_are_the_largest_gains_and_losses_and_evenly_spaced_prompts() -> None:
    first = [response(f"p{i:02}", 0.0) for i in range(20)]
    last = [response(f"p{i:02}", float(i - 10)) for i in range(20)]
    gains, losses, spaced = choose_examples(first, last)
    assert [e.change for e in gains.examples] == [9.0, 8.0, 7.0]
    assert [e.change for e in losses.examples] == [-10.0, -9.0, -8.0]
    assert [e.first.prompt_id for e in spaced.examples] == ["p04", "p08", "p11", "p15"]


def test_a_run_that_only_gained_shows_no_losses() -> None:
    titles = [group.title for group in choose_examples(rows(0.0), rows(1.0))]
    assert titles == ["Largest gains in gold reward", "Evenly spaced prompts"]


# -- numbers


def test_decimals_follow_from_the_interval() -> None:
    assert decimals_for(0.298, 0.481) == 3
    assert decimals_for(-2.0, 2.0) == 1
    assert interval(-1e-17, 2e-17) == "0.000 to 0.000"
    assert interval(-0.1, 0.3, with_sign=True) == "−0.10 to +0.30"
    assert (signed(0.25), signed(-0.25), signed(0.001), plain(-0.001), plain(None)) == (
        "+0.25",
        "−0.25",
        "0.00",
        "0.00",
        "–",
    )


def test_the_service_s_notices_about_the_gold_model_are_recognised() -> None:
    """With the sentences of the service, so that rewording them cannot disable the report's warning."""

    encoder = "sentence-transformers/all-MiniLM-L6-v2"
    notice = shared_base_notice("demo-gold", "all-MiniLM-L6-v2", "relevance encoder", encoder)
    assert notice is not None
    assert Circumstances("rer", (1, 1), 0.7, 128, [notice]).gold_shares_base
    assert Circumstances("rer", (1, 1), 0.7, 128, NOTICES).gold_is_demo
