"""verl's configuration, loader, reward workers (Ray actors) and managers, with the adapter's function and manager.

The rollout is made by hand, because verl generates on GPUs: token sequences, as its agent loop hands them over.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from hydra import compose, initialize_config_module
from transformers import AutoTokenizer
from verl.experimental.reward_loop.reward_loop import RewardLoopManager, migrate_legacy_reward_impl
from verl.protocol import DataProto
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.reward import load_reward_manager

from reward_client import RewardRejectedError
from reward_client.adapters.samples import Sample
from reward_client.adapters.scorer import Scorer
from tests.frameworks.conftest import API_KEY
from tests.frameworks.process import AWAY_S, ROOT, ServiceProcess
from tests.tiny_llama import save_tiny_llama

FUNCTION = [
    "reward.custom_reward_function.path=pkg://reward_client.adapters.verl",
    "reward.custom_reward_function.name=compute_score",
]
MANAGER = [
    "reward.reward_manager.source=importlib",
    "reward.reward_manager.module.path=pkg://reward_client.adapters.verl",
    "reward.reward_manager.name=Glassbox",
]
KINDS = {
    "function": (FUNCTION, "+reward.custom_reward_function.reward_kwargs"),
    "manager": (MANAGER, "+reward.reward_kwargs"),
}
ROWS = [
    ("Why is the sky blue?", "Because air molecules scatter short wavelengths.", ""),
    ("What is two plus two?", "Four", "Four"),
    ("Name a planet.", "Jupiter is the largest planet of all.", ""),
    ("What is two plus two?", "Jupiter", "Four"),
]
"""Prompt, response and ground truth."""
TOO_LONG = ("Name a planet.", "Jupiter", "x" * 300_000)
"""A row whose reference is longer than the service accepts."""
AWAY = "http://127.0.0.1:9"
"""A URL at which nothing answers."""


@pytest.fixture(scope="module")
def model() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield save_tiny_llama(Path(folder))


@pytest.fixture(scope="module")
def ray_logs() -> Iterator[Path]:
    """Ray on this machine; yields the folder with the logs of its workers."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: Ray adds the names of sockets
    try:
        variables = {"PYTHONPATH": os.environ["PYTHONPATH"]}
        ray.init(
            num_cpus=8,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=str(folder),
            runtime_env={"env_vars": variables},
        )
        yield folder
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def config(model: Path, kind: str, *lines: str, **settings: Any) -> Any:
    """verl's configuration with the adapter; `settings` are those of the adapter."""
    named, prefix = KINDS[kind]
    given = [f"{prefix}.{name}={value}" for name, value in settings.items()]
    base = [f"actor_rollout_ref.model.path={model}", "reward.num_workers=1"]
    with initialize_config_module("verl.trainer.config", version_base=None):
        return migrate_legacy_reward_impl(compose("ppo_trainer", overrides=[*base, *named, *given, *lines]))


def rollouts(model: Path, rows: Sequence[tuple[str, str, str]] = ROWS, *, prompt_key: str = "prompt") -> DataProto:
    """Prompts, responses and columns as verl's agent loop hands them to the reward."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    chats = [[{"role": "user", "content": prompt}] for prompt, _, _ in rows]
    prompts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] for chat in chats]
    responses = [tokenizer(f"{response}<|im_end|>")["input_ids"] for _, response, _ in rows]
    wide, long = max(map(len, prompts)), max(map(len, responses))
    pairs = list(zip(prompts, responses, strict=True))
    left = torch.tensor([[0] * (wide - len(p)) + p for p in prompts])
    right = torch.tensor([r + [0] * (long - len(r)) for r in responses])
    mask = [[0] * (wide - len(p)) + [1] * (len(p) + len(r)) + [0] * (long - len(r)) for p, r in pairs]
    inputs = torch.cat([left, right], 1)
    columns: dict[str, list[Any]] = {
        "data_source": ["made"] * len(rows),
        "reward_model": [{"style": "rule", "ground_truth": truth} for _, _, truth in rows],
        "extra_info": [{prompt_key: prompt} for prompt, _, _ in rows],
        "raw_prompt": chats,
    }
    return DataProto.from_dict(
        tensors={"prompts": left, "responses": right, "input_ids": inputs, "attention_mask": torch.tensor(mask)},
        non_tensors={name: _objects(values) for name, values in columns.items()},
    )


def _objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def expected(service: ServiceProcess, rows: Sequence[tuple[str, str, str]] = ROWS) -> dict[str, Any]:
    """What `POST /score` replies for the rows."""
    labels = [{"reference": t, "query_type": "closed_ended"} if t else {} for _, _, t in rows]
    items = [{"prompt": p, "response": r, **label} for (p, r, _), label in zip(rows, labels, strict=True)]
    return service.score(items)


@contextmanager
def workers(config: Any) -> Iterator[RewardLoopManager]:
    """verl's reward workers; ended at the end."""
    manager = RewardLoopManager(config)
    try:
        yield manager
    finally:
        for worker in manager.reward_loop_workers:
            ray.kill(worker)


def rewards(output: DataProto) -> list[float]:
    """The rewards that verl trains on."""
    values: list[float] = output.batch["rm_scores"].sum(-1).tolist()
    return values


@pytest.mark.parametrize("kind", KINDS)
def test_ray_workers_train_on_the_rewards_of_the_service_or_end_the_run(
    kind: str, model: Path, ray_logs: Path, service: ServiceProcess
) -> None:
    """One test a kind, because each worker takes many seconds to start."""
    with workers(config(model, kind, url=service.url, deadline_s=60)) as manager:
        reply = expected(service)

        output = manager.compute_rm_score(rollouts(model))
        assert rewards(output) == pytest.approx(reply["rewards"], rel=1e-6)
        _assert_features(output, reply)

        with service.away(max(4.0, AWAY_S)):
            output = manager.compute_rm_score(rollouts(model))
        assert rewards(output) == pytest.approx(reply["rewards"], rel=1e-6)

        with pytest.raises(
            ray.exceptions.RayTaskError, match=r"RewardError: 1 of 1 samples cannot be .*reference"
        ):
            manager.compute_rm_score(rollouts(model, [*ROWS, TOO_LONG]))


def _assert_features(output: DataProto, reply: dict[str, Any]) -> None:
    """All samples have the same names of floats, and verl's metrics of validation average them."""
    names = output.meta_info["reward_extra_keys"]
    assert {"score", "glassbox/query_relevance", "glassbox/reference_relevance"} <= set(names)
    infos = {name: output.non_tensor_batch[name].tolist() for name in names}
    for name in (name for name in names if name != "score"):
        values = [result["features"][name.removeprefix("glassbox/")] for result in reply["results"]]
        assert infos[name] == pytest.approx([0.0 if value is None else value for value in values], rel=1e-6)
    metrics = process_validation_metrics(["made"] * len(ROWS), [str(n) for n in range(len(ROWS))], infos)
    relevance = infos["glassbox/query_relevance"]
    assert metrics["made"]["glassbox/query_relevance"]["mean@1"] == pytest.approx(sum(relevance) / len(relevance))


def test_under_rate_limited_failures_are_no_zeros_and_the_log_warns_once(
    model: Path, ray_logs: Path, service: ServiceProcess
) -> None:
    """Under this manager an exception would become the reward 0.0."""
    lines = ["reward.reward_manager.name=rate_limited", "+reward.max_concurrent=16"]
    with workers(config(model, "function", *lines, url=service.url, deadline_s=2)) as manager:
        output = manager.compute_rm_score(rollouts(model))
        assert rewards(output) == pytest.approx(expected(service)["rewards"], rel=1e-6)

        not_a_mapping = rollouts(model)
        not_a_mapping.non_tensor_batch["extra_info"] = _objects(["text"] * len(ROWS))
        without_prompt = rollouts(model, prompt_key="question")
        for broken in (rollouts(model, [*ROWS, TOO_LONG]), without_prompt, not_a_mapping):
            with pytest.raises(TypeError):
                manager.compute_rm_score(broken)

    text = "".join(path.read_text(errors="replace") for path in ray_logs.glob("session_latest/logs/worker-*"))
    assert text.count("verl runs this reward function under its manager rate_limited") == 1
    assert "extra_info has no 'prompt'" in text


def test_an_error_of_the_client_crosses_ray_s_processes(ray_logs: Path, keyed_service: ServiceProcess) -> None:
    """From the reward worker through the agent loop's to the trainer."""
    url = keyed_service.url

    def worker() -> None:
        Scorer(url=url, api_key="another-key").score([Sample("p", "r")])

    def agent_loop() -> None:
        ray.get(ray.remote(worker).remote())

    with pytest.raises(RewardRejectedError, match="401") as caught:
        ray.get(ray.remote(agent_loop).remote())
    assert caught.value.problem.status == 401


def test_the_page_has_the_lines_that_run_here() -> None:
    page = (ROOT / "docs/frameworks/verl.md").read_text(encoding="utf-8")

    for lines, prefix in KINDS.values():
        for line in (*lines, f"{prefix}.url=http://HOST:8000"):
            assert f"    {line}\n" in page


def in_this_process(config: Any, model: Path, data: DataProto) -> list[float]:
    """The rewards of verl's loader and manager, without a Ray worker."""
    loop = asyncio.new_event_loop()
    with closing(loop):
        asyncio.set_event_loop(loop)
        manager = load_reward_manager(config, AutoTokenizer.from_pretrained(model))
        rows = [manager.run_single(data[n : n + 1]) for n in range(len(data))]
        found = loop.run_until_complete(asyncio.wait_for(_all(rows), timeout=60))
    return [one["reward_score"] for one in found]


async def _all(coroutines: Sequence[Any]) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*coroutines))


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_sent_and_a_wrong_one_raises(kind: str, model: Path, keyed_service: ServiceProcess) -> None:
    settings = {"url": keyed_service.url, "deadline_s": 20}
    right = config(model, kind, **settings, api_key=API_KEY)
    wrong = config(model, kind, **settings, api_key="another-key")

    found = in_this_process(right, model, rollouts(model))
    assert found == pytest.approx(expected(keyed_service)["rewards"], rel=1e-6)
    with pytest.raises(Exception, match="401"):
        in_this_process(wrong, model, rollouts(model))


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_stays_away_raises_after_the_deadline(kind: str, model: Path) -> None:
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
        in_this_process(config(model, kind, url=AWAY, deadline_s=0.5), model, rollouts(model))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_answers_nan_raises(kind: str, model: Path, nan_service: ServiceProcess) -> None:
    broken = config(model, kind, url=nan_service.url, deadline_s=3)

    with pytest.raises(Exception, match="finite"):
        in_this_process(broken, model, rollouts(model))


def test_the_function_names_the_key_of_the_prompt_that_is_missing(model: Path, service: ServiceProcess) -> None:
    data = rollouts(model, prompt_key="question")

    with pytest.raises(Exception, match=r"extra_info has no 'prompt'.*prompt_column"):
        in_this_process(config(model, "function", url=service.url), model, data)
    named = config(model, "function", url=service.url, prompt_column="question")
    assert in_this_process(named, model, data) == pytest.approx(expected(service)["rewards"], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_setting_is_named(kind: str, model: Path, service: ServiceProcess) -> None:
    wrong = config(model, kind, urls=service.url)

    with pytest.raises(Exception, match="urls"):
        in_this_process(wrong, model, rollouts(model))
