"""Warnings about a run from its evaluated checkpoints, and rules that stop it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.statistics.run_warnings import RULES, find_warnings
from reward_trainer.stop_rules import OF_CHECKPOINTS, OF_ROLLOUTS, StopRule
from tests.unit.evidence_run import evaluated_response, figures

N = 30


def responses(**changes: Any) -> list[Any]:
    """Responses to N prompts; a change may be a function of the prompt's number."""
    rows = []
    for i in range(N):
        values = {name: value(i) if callable(value) else value for name, value in changes.items()}
        factors = {"length": values.pop("proxy", 0.5)}
        rows.append(evaluated_response(f"p{i:02d}", factors, **values))
    return rows


def rules(first: list[Any], last: list[Any]) -> dict[str, str]:
    summary = figures(first, last)
    return {w.rule: w.message for w in find_warnings(summary.checkpoints, summary.trend, first, last, 128)}


def test_a_run_without_signs_has_no_warnings() -> None:
    assert rules(responses(), responses(proxy=0.6, gold=0.1)) == {}


def test_a_single_checkpoint_has_no_warnings() -> None:
    summary = figures(responses(truncated=True))

    assert find_warnings(summary.checkpoints, summary.trend, responses(), responses(), 128) == []


def test_truncated_responses_are_a_warning_above_a_half() -> None:
    found = rules(responses(), responses(truncated=lambda i: i % 5 != 0))

    assert list(found) == ["truncated"]
    assert "80 % of the responses end at the limit of 128 tokens, 0 % at step 0" in found["truncated"]
    assert rules(responses(), responses(truncated=lambda i: i % 2 == 0)) == {}


def test_a_proxy_that_rises_while_gold_falls_is_a_warning() -> None:
    def noise(i: int) -> float:
        return 0.01 * (i % 3)

    first = responses(proxy=lambda i: 0.4 + noise(i), gold=noise)
    last = responses(proxy=lambda i: 0.6 - noise(i), gold=lambda i: -0.5 + 2 * noise(i))

    assert "gold-fell" in rules(first, last)
    assert "gold-fell" not in rules(last, first)


def test_a_fall_of_gold_within_its_interval_is_no_warning() -> None:
    last = responses(proxy=0.6, gold=lambda i: -1.0 if i % 2 else 0.9)

    assert rules(responses(), last) == {}


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("query_relevance", "relevance-fell"),
        ("reference_relevance", "relevance-fell"),
        ("repetition_penalty", "repetition"),
    ],
)
def test_a_feature_that_falls_clearly_is_a_warning(name: str, rule: str) -> None:
    def at(mean: float) -> list[Any]:
        return responses(features=lambda i: {name: mean + 0.01 * (i % 2)})

    assert list(rules(at(0.8), at(0.5))) == [rule]
    assert rules(at(0.8), at(0.75)) == {}, "clear, but less than a tenth"


def test_a_feature_that_no_prompt_has_at_both_checkpoints_is_no_warning() -> None:
    assert rules(responses(features={"query_relevance": 0.8}), responses(features={"query_relevance": None})) == {}


def test_a_policy_far_from_the_initial_one_is_a_warning() -> None:
    found = rules(responses(kl=0.0), responses(kl=30.0))

    assert found == {"kl": "the policy is 30.0 nats per response from the initial one, above 25"}


# -- stop rules


def evaluation(**changes: Any) -> Evaluation:
    first, last = responses(kl=0.0), responses(proxy=0.7, kl=12.0, truncated=lambda i: i < 24, gold=-0.25)
    summary = figures(first, last)
    found = find_warnings(summary.checkpoints, summary.trend, first, last, 128)
    return Evaluation.model_construct(**{**dict(summary), "warnings": found, **changes})


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("kl>10", "kl is 12"),
        ("kl > 12.5", None),
        ("truncated>0.7", "truncated is 0.8"),
        ("gold_change<-0.2", "gold_change is -0.25"),
        ("gold_change<-0.3", None),
        ("proxy_change>0.1", "proxy_change is 0.2"),
        ("words<3", None),
    ],
)
def test_a_figure_of_the_last_checkpoint_stops_a_run(rule: str, reason: str | None) -> None:
    assert StopRule.parse(rule).reason(evaluation(), []) == reason


def test_a_warning_stops_a_run() -> None:
    assert "80 % of the responses" in (StopRule.parse("truncated").reason(evaluation(), []) or "")
    assert StopRule.parse("repetition").reason(evaluation(), []) is None


def test_rules_of_checkpoints_wait_for_an_evaluation() -> None:
    assert [StopRule.parse(rule).reason(None, []) for rule in ("truncated", "kl>0")] == [None, None]


def test_a_figure_of_the_rollouts_is_the_mean_of_five_steps() -> None:
    rule = StopRule.parse("rollout_truncated>0.5")
    steps = [{"step": i, "truncated": 1.0} for i in range(4)]

    assert rule.reason(None, steps) is None
    assert rule.reason(None, [{"step": 0, "truncated": 0.0}, *steps]) == (
        "rollout_truncated is 0.8, the mean of the last 5 steps"
    )
    assert rule.reason(None, [{"step": 0, "truncated": None}, *steps]) is None


@pytest.mark.parametrize("text", ["", "kl>", "kl>=1", "kl>1e", "reward>1", "kl>1; rm", "gold fell", "kl>nan"])
def test_an_unknown_rule_names_those_that_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="stop rule") as caught:
        StopRule.parse(text)
    assert all(name in str(caught.value) for name in [*RULES, *OF_CHECKPOINTS, *OF_ROLLOUTS])


def test_every_rule_and_figure_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "watch-a-run.md").read_text(encoding="utf-8")

    assert [name for name in [*RULES, *OF_CHECKPOINTS, *OF_ROLLOUTS] if f"`{name}`" not in page] == []
