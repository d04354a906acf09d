"""SkyRL's gym: the environment is registered, made, stepped, and its metrics are averaged, as its trainer does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import skyrl_gym
from skyrl_gym.envs.registration import registry
from skyrl_gym.metrics import aggregate_for_environment

from reward_client import RewardError, RewardRejectedError, RewardUnavailableError
from tests.frameworks.process import ServiceProcess

OPEN = {"prompt": "Why is the sky blue?", "response": "Because air molecules scatter short wavelengths."}
CLOSED = {"prompt": "What is two plus two?", "response": "Four", "reference": "Four", "query_type": "closed_ended"}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    skyrl_gym.register(id="glassbox", entry_point="reward_client.adapters.skyrl:GlassboxEnv")
    yield
    registry.pop("glassbox")


def episode(url: str, item: dict[str, Any], **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Output of the step, and metrics, of one episode."""
    extras = {"reward_spec": {"method": "rule", "ground_truth": item.get("reference")}}
    extras |= {name: item[name] for name in ("query_type",) if name in item}
    env = skyrl_gym.make("glassbox", env_config={"url": url, **settings}, extras=extras)
    prompt, _ = env.init([{"role": "user", "content": item["prompt"]}])
    assert prompt == [{"role": "user", "content": item["prompt"]}]
    step = env.step(item["response"])
    return step, env.get_metrics()


def test_an_episode_has_the_reward_of_the_service(service: ServiceProcess) -> None:
    direct = service.score([OPEN, CLOSED])["rewards"]

    steps = [episode(service.url, item)[0] for item in (OPEN, CLOSED)]

    assert [step["reward"] for step in steps] == pytest.approx(direct, rel=1e-6)
    assert [step["done"] for step in steps] == [True, True]


def test_features_are_averaged_over_the_episodes_that_have_them(service: ServiceProcess) -> None:
    results = service.score([OPEN, CLOSED])["results"]
    expected: dict[str, list[float]] = {}
    for result in results:
        for name, value in result["features"].items():
            if value is not None:
                expected.setdefault(f"glassbox/{name}", []).append(value)

    metrics = aggregate_for_environment("glassbox", [episode(service.url, item)[1] for item in (OPEN, CLOSED)])

    assert any(len(values) == 1 for values in expected.values())
    assert metrics == pytest.approx(
        {name: sum(values) / len(values) for name, values in expected.items()}, rel=1e-6
    )


def test_it_waits_for_a_service_that_comes_back(service: ServiceProcess) -> None:
    direct = service.score([OPEN])["rewards"][0]
    with service.away():
        step, _ = episode(service.url, OPEN)

    assert step["reward"] == pytest.approx(direct, rel=1e-6)


def test_it_raises_when_the_service_stays_away(service: ServiceProcess) -> None:
    with service.stopped(), pytest.raises(RewardUnavailableError):
        episode(service.url, OPEN, deadline_s=1)


def test_it_raises_for_a_response_that_cannot_be_scored(service: ServiceProcess) -> None:
    with pytest.raises(RewardError, match="reference: is needed for a closed_ended item"):
        episode(service.url, OPEN | {"query_type": "closed_ended"})


def test_it_raises_for_nan_of_a_model(nan_service: ServiceProcess) -> None:
    with pytest.raises(RewardError, match="1 of 1 samples cannot be scored"):
        episode(nan_service.url, OPEN)


def test_it_raises_with_a_wrong_key(keyed_service: ServiceProcess) -> None:
    with pytest.raises(RewardRejectedError, match="401"):
        episode(keyed_service.url, OPEN, api_key="wrong")
