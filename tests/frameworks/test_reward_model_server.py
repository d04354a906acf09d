"""verl's own client of vLLM and SGLang reward models, with the gold model that the service serves instead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hydra import compose, initialize_config_module
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker, migrate_legacy_reward_impl

from tests.frameworks.process import Launcher, ServiceProcess
from tests.frameworks.test_verl import AWAY, ROWS, rollouts
from tests.tiny_llama import save_tiny_reward_model

ENGINES = ["vllm", "sglang"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_reward_model(tmp_path_factory.mktemp("rm"))


@pytest.fixture(scope="module")
def gold_service(model: Path, launcher: Launcher) -> Iterator[ServiceProcess]:
    service = ServiceProcess(launcher, "--gold", str(model))
    try:
        service.start()
        yield service
    finally:
        service.stop()


def worker(model: Path, engine: str, url: str) -> RewardLoopWorker:
    """verl's worker, with the service's address in place of the router that verl starts."""
    lines = [
        f"actor_rollout_ref.model.path={model}",
        "reward.reward_model.enable=true",
        f"reward.reward_model.model_path={model}",
        f"reward.reward_model.rollout.name={engine}",
    ]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = migrate_legacy_reward_impl(compose("ppo_trainer", overrides=lines))
    return RewardLoopWorker(config, url.removeprefix("http://"))


def scores(model: Path, engine: str, url: str) -> list[float]:
    """What verl uses as rewards of its rollouts."""
    found: list[dict[str, Any]] = asyncio.run(worker(model, engine, url).compute_score_batch(rollouts(model)))
    return [one["reward_score"] for one in found]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_reward_is_the_gold_score(model: Path, gold_service: ServiceProcess, engine: str) -> None:
    items = [{"prompt": prompt, "response": response} for prompt, response, _ in ROWS]
    results = gold_service.score(items, gold=True, recipe="li")["results"]
    expected = [result["gold_reward"] for result in results]

    assert len({round(score, 3) for score in expected}) > 1
    assert scores(model, engine, gold_service.url) == pytest.approx(expected, rel=1e-5)  # batches differ


@pytest.mark.parametrize("engine", ENGINES)
def test_a_wrong_key_ends_the_run(model: Path, keyed_service: ServiceProcess, engine: str) -> None:
    with pytest.raises(aiohttp.ClientResponseError, match="401"):
        scores(model, engine, keyed_service.url)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_nan_is_an_error_status_that_verl_repeats(model: Path, nan_service: ServiceProcess, engine: str) -> None:
    with pytest.raises(aiohttp.ClientResponseError, match="500"):
        ask_once(worker(model, engine, nan_service.url), engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_verl_waits_for_a_service_that_comes_back(model: Path, gold_service: ServiceProcess, engine: str) -> None:
    before = scores(model, engine, gold_service.url)
    with gold_service.away():
        found = scores(model, engine, gold_service.url)

    assert found == pytest.approx(before, rel=1e-5)  # batches differ


@pytest.mark.parametrize("engine", ENGINES)
def test_a_service_that_stays_away_gives_no_score(model: Path, engine: str) -> None:
    with pytest.raises(aiohttp.ClientConnectorError):
        ask_once(worker(model, engine, AWAY), engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_that_is_too_long_ends_the_run(model: Path, gold_service: ServiceProcess, engine: str) -> None:
    with pytest.raises(aiohttp.ClientResponseError, match=r"413|422"):
        ask_once(worker(model, engine, gold_service.url), engine, "word " * 2000)


def ask_once(one: RewardLoopWorker, engine: str, text: str = "text") -> Any:
    """One request of verl's worker, which otherwise repeats it for minutes."""
    body, route = {"model": "rm", "input": text}, {"vllm": "classify", "sglang": "v1/embeddings"}[engine]
    return asyncio.run(one._post_request(body, route, max_retries=1))
