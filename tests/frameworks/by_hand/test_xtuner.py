"""xtuner's own `NativeJudger` with the service, from a checkout of xtuner. Needs ray.

    XTUNER_CHECKOUT=… GLASSBOX_SERVICE_PYTHON=.venv/bin/python PYTHONPATH=client \\
        .venv/bin/python -m pytest -q --confcutdir=tests/frameworks tests/frameworks/by_hand/test_xtuner.py
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from tests.frameworks.by_hand.checkout import load
from tests.frameworks.process import ServiceProcess

CHECKOUT = os.environ.get("XTUNER_CHECKOUT")
ITEM = {
    "prompt": "What is two plus two?",
    "response": "Four, or four",
    "reference": "Four",
    "query_type": "closed_ended",
}


@pytest.fixture(scope="module")
def native() -> ModuleType:
    if CHECKOUT is None:
        pytest.skip("XTUNER_CHECKOUT is not set")
    model = type("Model", (BaseModel,), {})
    names: dict[str, dict[str, Any]] = {
        "xtuner.v1.rl.utils": {
            "CPUResourcesConfig": model,
            "CPUActorLauncher": SimpleNamespace(to_actor_class=type),
        },
        "xtuner.v1.data_proto.rl_data": {"RolloutState": model},
        "xtuner.v1.utils.type_helper": {"ray_method": lambda function: function},
    }
    return load(Path(CHECKOUT), "xtuner/v1/rl/judger/native.py", names)


def judged(native: ModuleType, url: str, label: Any = "Four", **options: Any) -> dict[str, Any]:
    """The reward that xtuner sets for a response."""
    judger = native.NativeJudger(reward_handler=f"{url}/xtuner", **options)
    own: dict[str, Any] = {"message": [], "status": None, "data_source": None, "task_name": None, "reward": None}
    state = SimpleNamespace(response=ITEM["response"], reward_model={"ground_truth": label}, **own)
    reward: dict[str, Any] = asyncio.run(judger.judge(state)).reward
    return reward


def test_the_score_is_the_reward(native: ModuleType, service: ServiceProcess) -> None:
    (expected,) = service.score([ITEM])["results"]

    found = judged(native, service.url)

    features = {name: value for name, value in expected["features"].items() if value is not None}
    assert found == pytest.approx(features | {"score": expected["reward"]}, rel=1e-6)


def test_a_label_with_the_prompt_allows_every_recipe(native: ModuleType, service: ServiceProcess) -> None:
    label = {"prompt": ITEM["prompt"], "reference": "Four", "query_type": "open_ended"}

    found = judged(native, service.url, label)["score"]

    assert found == pytest.approx(service.score([ITEM | {"query_type": "open_ended"}])["rewards"][0], rel=1e-6)


def test_a_key_in_the_url_is_sent(native: ModuleType, keyed_service: ServiceProcess) -> None:
    url = keyed_service.url.replace("://", f"://key:{keyed_service.api_key}@")

    assert judged(native, url)["score"] == pytest.approx(keyed_service.score([ITEM])["rewards"][0], rel=1e-6)


# Failures -----------------------------------------------------------------------------------------------------


def test_a_service_that_is_away_raises(native: ModuleType, service: ServiceProcess) -> None:
    with service.stopped(), pytest.raises(httpx.ConnectError):
        judged(native, service.url)

    assert judged(native, service.url)["score"] == pytest.approx(service.score([ITEM])["rewards"][0], rel=1e-6)


@pytest.mark.parametrize("label", [{"query_type": "closed_ended"}, {"reference": "a", "query_type": "open_ended"}])
def test_a_sample_that_cannot_be_scored_raises(native: ModuleType, service: ServiceProcess, label: Any) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        judged(native, service.url, label)


def test_nan_of_a_model_raises(native: ModuleType, nan_service: ServiceProcess) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="500"):
        judged(native, nan_service.url)


def test_a_missing_key_raises(native: ModuleType, keyed_service: ServiceProcess) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        judged(native, keyed_service.url)
