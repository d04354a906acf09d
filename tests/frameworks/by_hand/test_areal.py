"""AReaL's own wrapper of reward functions with the adapter and the service, from an unpacked wheel of AReaL.

    pip download --no-deps areal==1.0.4 && unzip areal-1.0.4-*.whl 'areal/api/*' -d areal
    AREAL_CHECKOUT=areal GLASSBOX_SERVICE_PYTHON=.venv/bin/python PYTHONPATH=client \\
        .venv/bin/python -m pytest -q --confcutdir=tests/frameworks tests/frameworks/by_hand/test_areal.py
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from reward_client import RewardError, RewardRejectedError, RewardUnavailableError
from reward_client.adapters.areal import glassbox
from tests.frameworks.by_hand.checkout import load
from tests.frameworks.process import ServiceProcess

CHECKOUT = os.environ.get("AREAL_CHECKOUT")
MESSAGES = [{"role": "user", "content": "What is two plus two?"}]
RENDERED = "<|im_start|>user\nWhat is two plus two?<|im_end|>\n<|im_start|>assistant\n"
ROW = {"messages": MESSAGES, "reference": "Four"}
ITEM = {"prompt": MESSAGES, "response": "Four", "reference": "Four", "query_type": "closed_ended"}


@pytest.fixture(scope="module")
def reward_api() -> ModuleType:
    if CHECKOUT is None:
        pytest.skip("AREAL_CHECKOUT is not set")
    return load(Path(CHECKOUT), "areal/api/reward_api.py", {"areal.utils": {"logging": logging}})


@pytest.fixture(autouse=True)
def _fresh_processes(reward_api: ModuleType) -> Iterator[None]:
    """A pool keeps the variables of the test that started it."""
    yield
    for executor in reward_api.AsyncRewardWrapper._executors.values():
        executor.shutdown()
    reward_api.AsyncRewardWrapper._executors.clear()


def reward(reward_api: ModuleType, completion: str = "Four<|im_end|>", **row: Any) -> Any:
    """What the workflow of AReaL gets, which has 15 s and four tries."""
    wrapped = reward_api.AsyncRewardWrapper(glassbox, max_workers=1)
    return asyncio.run(wrapped(RENDERED, completion, [1], [2], **ROW | row))


def use(service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_URL", service.url)


def test_the_reward_is_that_of_score(
    reward_api: ModuleType, service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(service, monkeypatch)

    assert reward(reward_api) == pytest.approx(service.score([ITEM])["rewards"][0], rel=1e-6)


def test_a_sample_waits_for_a_service_that_comes_back(
    reward_api: ModuleType, service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(service, monkeypatch)
    monkeypatch.setenv("GLASSBOX_DEADLINE_S", "14")
    with service.away(1):
        found = reward(reward_api)

    assert found == pytest.approx(service.score([ITEM])["rewards"][0], rel=1e-6)


def test_a_service_that_stays_away_raises_and_is_not_a_reward_of_0(
    reward_api: ModuleType, service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(service, monkeypatch)

    with service.stopped(), pytest.raises(RewardUnavailableError):
        reward(reward_api)


def test_a_sample_that_cannot_be_scored_raises(
    reward_api: ModuleType, service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(service, monkeypatch)

    with pytest.raises(RewardError, match="reference"):
        reward(reward_api, reference=None, query_type="closed_ended")


def test_nan_of_a_model_raises(
    reward_api: ModuleType, nan_service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(nan_service, monkeypatch)

    with pytest.raises(RewardError):
        reward(reward_api)


def test_a_wrong_key_raises(
    reward_api: ModuleType, keyed_service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(keyed_service, monkeypatch)
    monkeypatch.setenv("GLASSBOX_API_KEY", "wrong")

    with pytest.raises(RewardRejectedError):
        reward(reward_api)
