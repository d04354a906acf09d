"""The adapter for Agent Lightning, with a server that takes events as its gateway does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from reward_client import RewardError, RewardUnavailableError
from reward_client.adapters.agent_lightning import report, report_async
from reward_service.settings import Settings
from tests.json_server import Received, json_server
from tests.live import serving

PATH = "/api/rollouts/r-1/attempt/0/events"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(max_text_chars=1000, default_recipe="rer")) as url:
        yield url


class Gateway:
    """Takes events, after the statuses in `refusals`."""

    def __init__(self) -> None:
        self.refusals: list[int] = []
        self.events: list[tuple[str, str | None, Any]] = []
        """Path, authorization and body of each."""


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway whose address and key are in the environment, as for an agent of Agent Lightning."""
    taken = Gateway()

    def answer(request: Received) -> tuple[int, Any]:
        status = taken.refusals.pop(0) if taken.refusals else 200
        if status == 200:
            taken.events.append((request.path, request.headers["authorization"], request.json()))
        return status, {}

    with json_server(answer) as url:
        monkeypatch.setenv("AGL_EVENT_URL", f"{url}{PATH}")
        monkeypatch.setenv("AGL_KEY", "gateway-key")
        yield taken


def test_the_reward_is_reported_with_its_features_even_if_the_gateway_is_busy_at_first(
    url: str, gateway: Gateway
) -> None:
    gateway.refusals = [503]

    reward = report("a b c", "a b", "a b", url=url)

    ((path, key, event),) = gateway.events
    assert (path, key) == (PATH, "Bearer gateway-key")
    assert event["event_type"] == "reward"
    assert event["data"]["value"] == reward
    assert event["data"]["features"]["reference_relevance"] > 0
    assert asyncio.run(report_async("a b c", "a b", "a b", url=url)) == reward
    assert len(gateway.events) == 2


@pytest.mark.parametrize(
    ("response", "settings"),
    [("x" * 1001, {}), ("NAN", {"deadline_s": 2}), ("a", {"url": "http://127.0.0.1:9", "deadline_s": 0.2})],
)
def test_a_failure_raises_and_reports_nothing(
    url: str, gateway: Gateway, response: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(RewardError):
        report("a b c", response, **({"url": url} | settings))

    assert gateway.events == []


def test_a_gateway_that_refuses_the_event_is_an_error(url: str, gateway: Gateway) -> None:
    gateway.refusals = [404]

    with pytest.raises(RewardError, match="gateway did not take the reward: 404") as caught:
        report("a b c", "a b", url=url)
    assert not isinstance(caught.value, RewardUnavailableError)


def test_outside_an_agent_the_missing_variable_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGL_EVENT_URL", raising=False)

    with pytest.raises(RewardError, match="AGL_EVENT_URL is not set"):
        report("a b c", "a b", url=url)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "AGL_EVENT_URL",
            "127.0.0.1:8001/events",
            "AGL_EVENT_URL is '127.0.0.1:8001/events', and must be the URL",
        ),
        ("AGL_EVENT_URL", "", "AGL_EVENT_URL is '', and must be the URL of Agent Lightning's gateway"),
        ("AGL_EVENT_URL", "http://host:port/events", "AGL_EVENT_URL is 'http://host:port/events'"),
        ("AGL_EVENT_URL", "ftp://agl:hidden@host/events", "AGL_EVENT_URL is 'ftp://host/events'"),
        ("AGL_KEY", "two words", "the API key in AGL_KEY"),
    ],
)
def test_a_wrong_variable_is_named_before_anything_is_scored(
    variable: str, value: str, message: str, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(RewardError, match=re.escape(message)) as caught:
        report("a b c", "a b", url="http://127.0.0.1:9", deadline_s=0.2)  # no service is needed to find it

    assert "hidden" not in str(caught.value)
    assert gateway.events == []
