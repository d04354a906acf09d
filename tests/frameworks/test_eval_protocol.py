"""eval-protocol's own `RewardFunction` in mode `remote`, with the service as its endpoint."""

from __future__ import annotations

import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # eval-protocol imports litellm, which would download a table

import pytest
import requests
from eval_protocol.reward_function import RewardFunction

from tests.frameworks.process import ROOT, ServiceProcess

PAGE = ROOT / "docs/frameworks/eval-protocol.md"
PATH = "/eval_protocol"
CHAT = [{"role": "user", "content": "What is two plus two?"}, {"role": "assistant", "content": "Four, or four"}]
ITEM = {"prompt": CHAT[0]["content"], "response": CHAT[1]["content"]}
CLOSED = ITEM | {"reference": "Four", "query_type": "closed_ended"}


def remote(service: ServiceProcess, options: str = "") -> Any:
    return RewardFunction(mode="remote", endpoint=f"{service.url}{PATH}{options}")


@pytest.mark.parametrize(
    ("arguments", "item"),
    [
        ({"ground_truth": "Four"}, CLOSED),
        ({"ground_truth": "Four", "query_type": "open_ended"}, CLOSED | {"query_type": "open_ended"}),
        ({}, ITEM),
    ],
)
def test_the_score_is_the_reward_and_metrics_are_features(
    service: ServiceProcess, arguments: dict[str, Any], item: dict[str, Any]
) -> None:
    (expected,) = service.score([item])["results"]

    found = remote(service)(messages=CHAT, **arguments)

    assert found.score == pytest.approx(expected["reward"], rel=1e-6)
    assert {name: metric.score for name, metric in found.metrics.items()} == pytest.approx(
        {"repetition_penalty": expected["features"]["repetition_penalty"]}
    )
    assert found.metrics["repetition_penalty"].is_score_valid
    for name, value in expected["features"].items():
        assert value is None or f"{name} {value:.6g}" in found.reason


def test_a_reward_outside_0_to_1_is_accepted(service: ServiceProcess) -> None:
    expected = service.score([CLOSED], recipe_overrides={"max_response_tokens": 5120})["rewards"][0]

    found = remote(service, "?max_response_tokens=5120")(messages=CHAT, ground_truth="Four")

    assert found.score == pytest.approx(expected, rel=1e-6)
    assert expected > 1


def test_the_endpoint_is_that_of_the_documentation() -> None:
    assert f'endpoint="http://HOST:8000{PATH}?recipe=' in PAGE.read_text(encoding="utf-8")


# Failures -----------------------------------------------------------------------------------------------------


def test_a_service_that_is_away_raises_and_one_that_is_back_scores(service: ServiceProcess) -> None:
    """The client does not try again, so only its caller can wait."""
    with service.stopped(), pytest.raises(requests.ConnectionError):
        remote(service)(messages=CHAT, ground_truth="Four")

    assert remote(service)(messages=CHAT, ground_truth="Four").score == pytest.approx(
        service.score([CLOSED])["rewards"][0], rel=1e-6
    )


def test_a_conversation_that_cannot_be_scored_raises(service: ServiceProcess) -> None:
    with pytest.raises(requests.HTTPError, match="422"):
        remote(service)(messages=CHAT, query_type="closed_ended")
    with pytest.raises(requests.HTTPError, match="422"):
        remote(service)(messages=CHAT[:1], ground_truth="Four")


def test_nan_of_a_model_raises(nan_service: ServiceProcess) -> None:
    with pytest.raises(requests.HTTPError, match="500"):
        remote(nan_service)(messages=CHAT, ground_truth="Four")


def test_a_wrong_key_raises(keyed_service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIREWORKS_API_KEY", "wrong")
    with pytest.raises(requests.HTTPError, match="401"):
        remote(keyed_service)(messages=CHAT, ground_truth="Four")
    monkeypatch.setenv("FIREWORKS_API_KEY", str(keyed_service.api_key))

    assert remote(keyed_service)(messages=CHAT, ground_truth="Four").score > 0
