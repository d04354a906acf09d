"""ms-swift's own `swift rlhf --rlhf_type grpo` for one step of a tiny model, with the service as its reward."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.frameworks.process import ROOT, ServiceProcess
from tests.tiny_llama import save_tiny_llama

PAGE = ROOT / "docs/frameworks/ms-swift.md"
PLUGIN_COMMAND = "python -m reward_client.adapters.swift"
FEATURES = ("length_incentive", "reference_relevance", "truncated")
QUESTIONS = {"Why is the sky blue?": None, "What is two plus two?": "Four e e"}
"""Reference by prompt."""
OPTIONS = (
    "--rlhf_type grpo --model_type llama --template dummy --tuner_type full --torch_dtype float32 "
    "--max_length 128 --num_generations 2 --per_device_train_batch_size 4 --gradient_accumulation_steps 1 "
    "--max_steps 1 --seed 1 --max_completion_length 24 --logging_steps 1 --log_completions true "
    "--save_strategy no --report_to none --use_cpu true --bf16 false --fp16 false"
)


@dataclass(frozen=True)
class Run:
    """A run of `swift rlhf`."""

    status: int
    output: str
    folder: Path

    @property
    def step(self) -> dict[str, float]:
        """What ms-swift logged for the step."""
        (file,) = self.folder.rglob("logging.jsonl")
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return next(line for line in lines if "reward" in line)

    @property
    def completions(self) -> dict[str, list[Any]]:
        """ms-swift's table of the step's completions, by column."""
        (file,) = self.folder.rglob("completions.jsonl")
        table: dict[str, list[Any]] = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
        return table

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items of /score."""
        table = self.completions
        found = []
        for prompt, completion in zip(table["prompt"], table["completion"], strict=True):
            question = next(text for text in QUESTIONS if text in prompt)
            reference = QUESTIONS[question]
            kind = "open_ended" if reference is None else "closed_ended"
            found.append({"prompt": question, "response": completion, "reference": reference, "query_type": kind})
        return found


Train = Callable[..., Run]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture
def train(model: Path, tmp_path: Path) -> Train:
    """Runs one step."""
    plugin = subprocess.run(
        [sys.executable, *PLUGIN_COMMAND.split()[1:]], capture_output=True, text=True, check=True
    ).stdout.strip()

    def run(url: str, rows: Sequence[Mapping[str, Any]] = rows_of(QUESTIONS), *more: str, **variables: str) -> Run:
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        command = [str(Path(sys.executable).parent / "swift"), "rlhf", *OPTIONS.split()]
        command += ["--model", str(model), "--dataset", str(data), "--output_dir", str(tmp_path / "run")]
        command += ["--external_plugins", plugin, *(more or ("--reward_funcs", "glassbox"))]
        env = os.environ | {"GLASSBOX_URL": url, "USE_HF": "1"} | variables
        done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
        return Run(done.returncode, done.stdout + done.stderr, tmp_path / "run")

    return run


def rows_of(questions: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Rows of the data set; a question without a reference is open-ended."""
    return [
        {
            "messages": [{"role": "user", "content": question}],
            "reference": reference,
            "query_type": "open_ended" if reference is None else "closed_ended",
        }
        for question, reference in questions.items()
    ]


def no_reward_was_used(run: Run) -> bool:
    """The run ended before it had a step with a reward."""
    return run.status != 0 and not re.search(r"'reward': '?-?\d", run.output)


def test_a_step_gets_the_rewards_and_logs_features(service: ServiceProcess, train: Train) -> None:
    names = ["glassbox", *(f"glassbox/{name}" for name in FEATURES)]
    options = ["--reward_funcs", *names, "--reward_weights", "1", *("0" for _ in FEATURES)]

    run = train(service.url, rows_of(QUESTIONS), *options, GLASSBOX_LOG_FEATURES=",".join(FEATURES))

    assert run.status == 0, run.output[-4000:]
    reply = service.score(run.items)
    rewards = reply["rewards"]
    assert len(rewards) == 4
    assert len(set(rewards)) > 1
    assert run.completions["Glassbox"] == pytest.approx(rewards, rel=1e-6)
    assert run.step["reward"] == pytest.approx(sum(rewards) / 4, rel=1e-6)
    for name in FEATURES[:2]:
        values = [result["features"][name] for result in reply["results"] if result["features"][name] is not None]
        assert run.step[f"rewards/glassbox/{name}/mean"] == pytest.approx(sum(values) / len(values), rel=1e-6)
    assert 0 <= run.step["rewards/glassbox/truncated/mean"] <= 1
    assert f'"$({PLUGIN_COMMAND})"' in PAGE.read_text(encoding="utf-8")


# Failures -----------------------------------------------------------------------------------------------------


def test_a_step_waits_for_a_service_that_comes_back(service: ServiceProcess, train: Train) -> None:
    """The service is away until the run has asked it once."""
    service.stop()
    with ThreadPoolExecutor(1) as pool:
        address = urlsplit(service.url)
        with socket.create_server((str(address.hostname), int(address.port or 0))) as listener:
            listener.settimeout(300)
            running = pool.submit(train, service.url)
            listener.accept()[0].close()
        service.start()
        run = running.result()

    assert run.status == 0, run.output[-4000:]
    assert run.completions["Glassbox"] == pytest.approx(service.score(run.items)["rewards"], rel=1e-6)


def test_a_service_that_stays_away_ends_the_run(service: ServiceProcess, train: Train) -> None:
    with service.stopped():
        run = train(service.url, GLASSBOX_DEADLINE_S="1")

    assert no_reward_was_used(run)
    assert "RewardUnavailableError" in run.output


def test_a_sample_that_cannot_be_scored_ends_the_run(service: ServiceProcess, train: Train) -> None:
    rows = rows_of(QUESTIONS)
    rows[0]["query_type"] = "closed_ended"

    run = train(service.url, rows)

    assert no_reward_was_used(run)
    assert "2 of 4 samples cannot be scored" in run.output
    assert "reference" in run.output


def test_nan_of_a_model_ends_the_run(nan_service: ServiceProcess, train: Train) -> None:
    run = train(nan_service.url, GLASSBOX_DEADLINE_S="5")

    assert no_reward_was_used(run)
    assert "RewardError" in run.output or "RewardUnavailableError" in run.output


def test_a_wrong_key_ends_the_run(keyed_service: ServiceProcess, train: Train) -> None:
    run = train(keyed_service.url, GLASSBOX_API_KEY="wrong")

    assert no_reward_was_used(run)
    assert "RewardRejectedError" in run.output
