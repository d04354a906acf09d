"""TRL's GRPO and RLOO trainers with the service as their reward function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from reward_client import RewardError, RewardRejectedError, RewardUnavailableError
from reward_client.adapters.trl import Reward, reward_function
from tests.frameworks.process import ROOT, ServiceProcess
from tests.tiny_llama import save_tiny_llama

PAGE = ROOT / "docs/frameworks/trl.md"
REWARD_OPTION = "--reward_funcs reward_client.adapters.trl.glassbox"
FEATURES = ("length_incentive", "repetition_penalty", "query_relevance", "reference_relevance")
ROWS: list[dict[str, Any]] = [
    {"prompt": "Why is the sky blue?", "reference": None, "query_type": "open_ended"},
    {"prompt": "What is two plus two?", "reference": "Four e e", "query_type": "closed_ended"},
]
UNSCORABLE = {"prompt": "What is two plus two?", "reference": None, "query_type": "closed_ended"}
SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "max_completion_length": 24,
    "max_steps": 1,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "log_completions": True,
    "seed": 1,
}

Train = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_llama(tmp_path_factory.mktemp("model")))


@pytest.fixture
def train(model: str, tmp_path: Path) -> Train:
    """Makes a trainer of two prompts with two completions each; `.train()` is up to the test."""

    def make(
        reward: Reward | list[Reward], rows: Sequence[Mapping[str, Any]] = ROWS, *, kind: str = "grpo", **more: Any
    ) -> Any:
        trainer, config = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}[kind]
        args = config(output_dir=str(tmp_path), **SETTINGS | more)
        data = Dataset.from_list([dict(row) for row in rows])
        return trainer(model=model, reward_funcs=reward, args=args, train_dataset=data)

    return make


class Recorder:
    """A reward function that passes its calls on, and keeps what TRL gave and got."""

    def __init__(self, reward: Reward) -> None:
        self.items: list[dict[str, Any]] = []
        self.rewards: list[float | None] = []

        async def glassbox(prompts: list[Any], completions: list[Any], **given: Any) -> list[float | None]:
            found = await reward(prompts, completions, **given)
            columns = {name: given[name] for name in ("reference", "query_type")}
            self.items += items(prompts, completions, **columns)
            self.rewards += found
            return found

        self.function = glassbox


def items(prompts: Sequence[Any], completions: Sequence[Any], **columns: Sequence[Any]) -> list[dict[str, Any]]:
    """The items of /score."""
    texts = [text if isinstance(text, str) else text[0]["content"] for text in completions]
    rows = zip(prompts, texts, *columns.values(), strict=True)
    return [dict(zip(("prompt", "response", *columns), row, strict=True)) for row in rows]


def chat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "prompt": [{"role": "user", "content": row["prompt"]}]}


def table(folder: Path) -> list[dict[str, Any]]:
    """The rows of TRL's table of completions of the first step."""
    rows: list[dict[str, Any]] = pq.read_table(folder / "completions/completions_00001.parquet").to_pylist()
    return rows


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("messages", [True, False], ids=["chat", "plain"])
def test_a_step_gets_the_rewards_of_the_service_and_logs_their_features(
    service: ServiceProcess, train: Train, kind: str, messages: bool
) -> None:
    recorder = Recorder(reward_function(url=service.url))
    trainer = train(recorder.function, [chat(row) if messages else row for row in ROWS], kind=kind)

    trainer.train()

    reply = service.score(recorder.items)
    assert len(recorder.items) == 4
    assert recorder.rewards == pytest.approx(reply["rewards"], rel=1e-6)
    assert len(set(reply["rewards"])) > 1
    log = trainer.state.log_history[0]
    assert log["rewards/glassbox/mean"] == pytest.approx(sum(reply["rewards"]) / 4, rel=1e-6)
    assert log["glassbox/unscored"] == 0
    for name in FEATURES:
        values = [result["features"][name] for result in reply["results"] if result["features"][name] is not None]
        assert log[f"glassbox/{name}"] == pytest.approx(sum(values) / len(values), rel=1e-6)


def test_the_table_of_completions_has_rewards_features_and_causes(
    service: ServiceProcess, train: Train, tmp_path: Path
) -> None:
    trainer = train(reward_function(url=service.url), [ROWS[0], UNSCORABLE])

    trainer.train()

    found = table(tmp_path)
    scored, others = ([row for row in found if (row["glassbox"] is None) is none] for none in (False, True))
    assert (len(scored), len(others)) == (2, 2)
    expected = service.score(items(*([row[name] for row in scored] for name in ("prompt", "completion"))))
    assert [row["glassbox"] for row in scored] == pytest.approx(expected["rewards"], rel=1e-6)
    for name in FEATURES[:3]:
        features = [result["features"][name] for result in expected["results"]]
        assert [row[f"glassbox/{name}"] for row in scored] == pytest.approx(features, rel=1e-6)
    assert all("reference" in row["glassbox/error"] for row in others)
    assert [row["advantage"] for row in others] == [0.0, 0.0]


def test_completions_that_cannot_be_scored_are_left_out(service: ServiceProcess, train: Train) -> None:
    recorder = Recorder(reward_function(url=service.url))
    trainer = train(recorder.function, [ROWS[0], UNSCORABLE])

    trainer.train()

    rewards = [reward for reward in recorder.rewards if reward is not None]
    log = trainer.state.log_history[0]
    assert len(rewards) == 2
    assert log["reward"] == pytest.approx(sum(rewards) / 2, rel=1e-6)
    assert log["glassbox/unscored"] == 0.5


def test_several_recipes_are_rewards_of_one_run(service: ServiceProcess, train: Train) -> None:
    trainer = train([reward_function(url=service.url, recipe=recipe) for recipe in ("rer", "li")])

    trainer.train()

    log = trainer.state.log_history[0]
    assert log["reward"] == pytest.approx(
        log["rewards/glassbox_rer/mean"] + log["rewards/glassbox_li/mean"], rel=1e-5
    )
    assert log["glassbox_li/length_incentive"] == pytest.approx(log["glassbox_rer/length_incentive"])


def test_the_command_line_takes_the_dotted_path_of_the_documentation(
    service: ServiceProcess, model: str, tmp_path: Path
) -> None:
    assert REWARD_OPTION in PAGE.read_text(encoding="utf-8")
    (tmp_path / "data").mkdir()
    rows = "\n".join(json.dumps(chat(row)) for row in ROWS)
    (tmp_path / "data" / "train.jsonl").write_text(rows, encoding="utf-8")
    folders = {"model_name_or_path": model, "dataset_name": tmp_path / "data", "output_dir": tmp_path}
    settings = {name: value for name, value in SETTINGS.items() if name != "report_to"}
    options = [f"--{name}={value}" for name, value in (folders | settings | {"report_to": "none"}).items()]
    command = [str(Path(sys.executable).parent / "trl"), "grpo", *options, *REWARD_OPTION.split()]

    done = subprocess.run(
        command, env=os.environ | {"GLASSBOX_URL": service.url}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[-4000:]
    found = table(tmp_path)
    given = [next(row for row in ROWS if row["prompt"] in str(one["prompt"])) for one in found]
    columns = {name: [row[name] for row in given] for name in ("reference", "query_type")}
    expected = service.score(
        items([row["prompt"] for row in given], [one["completion"] for one in found], **columns)
    )
    assert [one["glassbox"] for one in found] == pytest.approx(expected["rewards"], rel=1e-6)


# Failures -----------------------------------------------------------------------------------------------------


def test_a_step_waits_for_a_service_that_comes_back(service: ServiceProcess, train: Train) -> None:
    reward = reward_function(url=service.url)

    async def interrupted(*given: Any, **columns: Any) -> list[float | None]:
        with service.away():
            return await reward(*given, **columns)

    recorder = Recorder(interrupted)
    trainer = train(recorder.function)

    trainer.train()

    assert recorder.rewards == pytest.approx(service.score(recorder.items)["rewards"], rel=1e-6)


def test_the_run_ends_when_the_service_is_away_for_good(service: ServiceProcess, train: Train) -> None:
    trainers = [train(reward_function(url=service.url, deadline_s=1), kind=kind) for kind in ("grpo", "rloo")]

    with service.stopped():
        for trainer in trainers:
            with pytest.raises(RewardUnavailableError):
                trainer.train()

    assert [trainer.state.global_step for trainer in trainers] == [0, 0]


def test_nothing_is_learned_from_a_broken_model_and_the_run_ends(
    nan_service: ServiceProcess, train: Train
) -> None:
    trainer = train(reward_function(url=nan_service.url), max_steps=2, log_completions=False)

    with pytest.raises(RewardError, match="neither the first batch nor a short text has a reward"):
        trainer.train()

    assert trainer.state.log_history == []


def test_a_wrong_key_ends_the_run_and_the_right_one_is_accepted(
    keyed_service: ServiceProcess, train: Train
) -> None:
    with pytest.raises(RewardRejectedError, match="401"):
        train(reward_function(url=keyed_service.url, api_key="another-key-of-the-tests")).train()

    recorder = Recorder(reward_function(url=keyed_service.url, api_key=keyed_service.api_key))
    train(recorder.function).train()

    assert recorder.rewards == pytest.approx(keyed_service.score(recorder.items)["rewards"], rel=1e-6)
