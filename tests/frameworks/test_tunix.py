"""Tunix's own loader of reward functions and its SequenceRewardManager, with the service as the reward."""

from __future__ import annotations

import os
import types
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
import pytest
from tunix.cli import config as tunix_config
from tunix.rl import algorithm_config, reward_manager

from reward_client import RewardError, RewardRejectedError, RewardUnavailableError
from tests.frameworks.process import ROOT, ServiceProcess

PAGE = ROOT / "docs/frameworks/tunix.md"
MODULE = "reward_client.adapters.tunix"
PROMPTS = ["Why is the sky blue?", "What is two plus two?"] * 2
COMPLETIONS = ["Because air molecules scatter short wavelengths.", "Four", "No idea", "Jupiter"]
COLUMNS: dict[str, Any] = {
    "reference": np.array([None, "Four"] * 2, object),
    "query_type": ["open_ended", "closed_ended"] * 2,
}
ITEMS = [
    {"prompt": prompt, "response": completion, "reference": reference, "query_type": kind}
    for prompt, completion, reference, kind in zip(PROMPTS, COMPLETIONS, *COLUMNS.values(), strict=True)
]


def functions() -> list[Any]:
    """What Tunix finds for `reward_functions: [MODULE]`."""
    holder = types.SimpleNamespace(config={"reward_functions": [MODULE], "verl_compatible": False})
    loader = next(member for member in vars(tunix_config).values() if hasattr(member, "obtain_reward_fn"))
    found: list[Any] = loader.obtain_reward_fn(holder)
    return found


def rewards(**columns: Any) -> dict[str, Any]:
    """The rewards and metrics of a batch."""
    manager = reward_manager.SequenceRewardManager(functions(), algorithm_config.AlgorithmConfig())
    found: dict[str, Any] = manager(PROMPTS, COMPLETIONS, **COLUMNS | columns)
    return found


def use(service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_URL", service.url)


def test_the_module_of_the_documentation_is_one_reward_function() -> None:
    assert [function.__name__ for function in functions()] == ["glassbox"]
    assert f'reward_functions: ["{MODULE}"]' in PAGE.read_text(encoding="utf-8")


def test_a_batch_gets_the_rewards_of_the_service(service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    use(service, monkeypatch)
    expected = service.score(ITEMS)["rewards"]

    found = rewards()

    assert len(set(expected)) > 1
    assert found["rewards"].tolist() == pytest.approx(expected, rel=1e-6)
    assert found["log_metrics"]["rewards/glassbox"][0].tolist() == pytest.approx(expected, rel=1e-6)


# Failures -----------------------------------------------------------------------------------------------------


def test_a_batch_waits_for_a_service_that_comes_back(
    service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(service, monkeypatch)
    with service.away():
        found = rewards()

    assert found["rewards"].tolist() == pytest.approx(service.score(ITEMS)["rewards"], rel=1e-6)


def test_a_service_that_stays_away_raises(service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    use(service, monkeypatch)
    monkeypatch.setenv("GLASSBOX_DEADLINE_S", "1")

    with service.stopped(), pytest.raises(RewardUnavailableError):
        rewards()


def test_a_sample_that_cannot_be_scored_raises(service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    use(service, monkeypatch)

    with pytest.raises(RewardError, match="2 of 4 samples cannot be scored: sample 0: reference"):
        rewards(query_type=["closed_ended"] * 4)


def test_nan_of_a_model_raises(nan_service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    use(nan_service, monkeypatch)
    monkeypatch.setenv("GLASSBOX_DEADLINE_S", "3")

    with pytest.raises(RewardError):
        rewards()


def test_a_wrong_key_raises(keyed_service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    use(keyed_service, monkeypatch)
    monkeypatch.setenv("GLASSBOX_API_KEY", "wrong")
    with pytest.raises(RewardRejectedError):
        rewards()
    monkeypatch.setenv("GLASSBOX_API_KEY", str(keyed_service.api_key))

    assert rewards()["rewards"].tolist() == pytest.approx(keyed_service.score(ITEMS)["rewards"], rel=1e-6)
