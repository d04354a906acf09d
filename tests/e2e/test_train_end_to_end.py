"""The complete loop: a running service, the real OpenRLHF, checkpoints, evaluation, report.

The policy is a random Llama with two layers, so that the loop takes minutes; its responses are random text.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from reward_client import Item, RetryPolicy, RewardClient
from tests.live import until
from tests.tiny_llama import save_tiny_llama, save_tiny_reward_model
from tests.training_lock import one_training

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RECORDER = Path(__file__).parent / "recorder"
RUN_MARK = "TEST_RUN_DIR"
WORDS = ["bread", "rain", "glass", "music", "iron", "sleep", "tea", "chess", "wool", "salt", "moss", "ink"]


def prompt_rows(offset: int, n: int) -> list[dict[str, Any]]:
    open_ended = [
        {"id": f"open-{i}", "prompt": f"What is {WORDS[i]}?", "query_type": "open_ended"}
        for i in range(offset, offset + n)
    ]
    closed_ended = [
        {
            "id": f"closed-{i}",
            "prompt": f"Is {WORDS[i]} a thing?",
            "query_type": "closed_ended",
            "reference": f"Yes, {WORDS[i]} is a thing.",
        }
        for i in range(offset, offset + n)
    ]
    return open_ended + closed_ended


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def service(port: int, gold: str = "none") -> Iterator[str]:
    """Run the reward service as a user does; yield its URL when it is ready."""
    command = [sys.executable, "-m", "reward_service", "--port", str(port), "--gold", gold, "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            with RewardClient(url, retry=RetryPolicy(budget_s=120)) as client:
                client.ready()
            yield url
        finally:
            process.kill()
            until(lambda: not listening(port))  # its child process ends within a second, and replies until then


def listening(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


class Workplace:
    """Policy, prompts and the trainer's command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = save_tiny_llama(folder / "policy")
        self.gold = save_tiny_reward_model(folder / "gold")
        self.prompts = write_rows(folder / "train.jsonl", prompt_rows(0, 8))
        self.heldout = write_rows(folder / "heldout.jsonl", prompt_rows(8, 2))

    def arguments(self, url: str, run_dir: Path, *more: str) -> list[str]:
        given = ["--preset", "tiny", "--policy", self.policy, "--prompts", self.prompts, "--heldout", self.heldout]
        return [*map(str, given), "--reward-url", url, "--run-dir", str(run_dir), *more]

    def start(self, arguments: list[str], **variables: str) -> subprocess.Popen[str]:
        mark = {RUN_MARK: arguments[arguments.index("--run-dir") + 1]}
        return subprocess.Popen(
            [sys.executable, str(ROOT / "trainer" / "run.py"), *arguments],
            env={**os.environ, "HF_HUB_OFFLINE": "1", **mark, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, arguments: list[str], **variables: str) -> str:
        with self.start(arguments, **variables) as process:
            printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        return printed


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """No other test trains meanwhile."""
    with one_training():
        yield


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


class Trained:
    """A finished run of two steps, with the content of OpenRLHF's batches."""

    def __init__(
        self, run_dir: Path, batches: list[dict[str, Any]], printed: str, replayed: list[float | None]
    ) -> None:
        self.run_dir = run_dir
        self.batches = batches
        self.printed = printed
        self.replayed = replayed


@pytest.fixture(scope="module")
def trained(workplace: Workplace, port: int) -> Trained:
    run_dir, batches = workplace.folder / "run", workplace.folder / "batches.jsonl"
    path = [str(RECORDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    recorder = {"PYTHONPATH": os.pathsep.join(path), "RECORDED_BATCHES": str(batches)}
    with service(port, str(workplace.gold)) as url:
        printed = workplace.run(workplace.arguments(url, run_dir, "--gold"), **recorder)
        rows = read_rows(batches)
        return Trained(run_dir, rows, printed, replay(url, workplace, rows))


def replay(url: str, workplace: Workplace, rows: list[dict[str, Any]]) -> list[float | None]:
    """Score each rollout with `/score`, from prompt, response and label."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(workplace.policy)
    prompts = {row["id"]: row for row in read_rows(workplace.prompts)}
    items = [
        Item(
            prompt=prompts[row["label"]["id"]]["prompt"],
            response=tokenizer.decode(row["response_ids"], skip_special_tokens=True),
            reference=row["label"]["reference"],
            query_type=row["label"]["query_type"],
        )
        for row in rows
    ]
    with RewardClient(url) as client:
        return client.score(items, recipe="glassbox", recipe_overrides={"max_response_tokens": 16}).rewards


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {
        name: tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
        if name != "lm_head.weight"
    }


def differs(left: Path, right: Path) -> bool:
    a, b = weights(left), weights(right)
    assert a.keys() == b.keys()
    return any(not a[name].equal(b[name]) for name in a)


def test_each_rollout_scored_again_has_the_reward_that_openrlhf_trained_on(trained: Trained) -> None:
    assert len(trained.batches) == 8
    assert {row["label"]["query_type"] for row in trained.batches} == {"open_ended", "closed_ended"}
    assert len({row["reward"] for row in trained.batches}) > 1
    # Rewards in [0, 1]: OpenRLHF keeps float32, and the encoder's float32 sums depend on the rest of its batch.
    assert trained.replayed == pytest.approx([row["reward"] for row in trained.batches], abs=1e-5)


def test_training_changes_the_weights_at_every_step(trained: Trained) -> None:
    checkpoints = [trained.run_dir / "checkpoints" / f"{step:06d}" for step in (0, 1, 2)]

    assert differs(checkpoints[0], checkpoints[1])
    assert differs(checkpoints[1], checkpoints[2])


def test_every_checkpoint_loads_with_transformers(trained: Trained) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for folder in (trained.run_dir / "checkpoints").iterdir():
        assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 2
        assert AutoTokenizer.from_pretrained(folder).chat_template


def test_the_metrics_are_those_of_tensorboard_and_of_the_batches(trained: Trained) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (trained.run_dir / "tensorboard" / trained.run_dir.name).rglob("events.*")
    board = EventAccumulator(str(events)).Reload()
    metrics = read_rows(trained.run_dir / "metrics.jsonl")
    batch_means = [sum(row["reward"] for row in trained.batches[i : i + 4]) / 4 for i in (0, 4)]

    assert [step["step"] for step in metrics] == [1, 2]
    # Rewards in [0, 1], whose mean OpenRLHF computes in float32.
    assert [step["reward"] for step in metrics] == pytest.approx(batch_means, abs=1e-5)
    for ours, theirs in [("reward", "rollout/reward_mean"), ("kl", "kl"), ("grad_norm", "actor_grad_norm")]:
        assert [step[ours] for step in metrics] == pytest.approx(
            [e.value for e in board.Scalars(f"train/{theirs}")]
        )
    assert all(step["gold_reward"] is not None and step["grad_norm"] > 0 for step in metrics)


def test_the_record_states_engine_recipe_and_versions(trained: Trained) -> None:
    config = json.loads((trained.run_dir / "config.json").read_text())

    assert config["rollout_engine"] == "rollout engine: transformers (CPU), not vLLM"
    assert config["rollout_engine"] in trained.printed
    assert "openrlhf==" in (trained.run_dir / "freeze.txt").read_text()
    assert config["recipe"] == "glassbox"
    assert config["recipe_overrides"] == {"max_response_tokens": 16}


def test_the_checkpoints_are_evaluated_and_reported(trained: Trained) -> None:
    evaluated = {path.name for path in (trained.run_dir / "evaluation").glob("*.jsonl")}

    assert {"000000.jsonl", "000001.jsonl", "000002.jsonl"} <= evaluated
    assert json.loads((trained.run_dir / "evaluation.json").read_text())
    assert "not vLLM" in (trained.run_dir / "report.html").read_text(encoding="utf-8")


def test_no_process_of_the_run_remains(trained: Trained) -> None:
    assert leftovers(trained.run_dir) == []


def leftovers(run_dir: Path) -> list[str]:
    """Return the commands of the processes that inherited the name of the run."""
    infos = [process.info for process in psutil.process_iter(["pid", "cmdline", "environ"])]
    ours = [info for info in infos if (info["environ"] or {}).get(RUN_MARK) == str(run_dir)]
    return [" ".join(info["cmdline"] or [])[:200] for info in ours]


def wait_for(path: Path, process: subprocess.Popen[str], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.1)


def test_a_run_stops_with_the_cause_when_the_service_dies_and_can_be_resumed(
    workplace: Workplace, port: int
) -> None:
    """With a learning rate of 0, so that all checkpoints must have the weights of step 0."""
    run_dir = workplace.folder / "interrupted"
    arguments = workplace.arguments(
        f"http://127.0.0.1:{port}", run_dir, "--steps", "4", "--learning-rate", "0", "--no-evaluate"
    )
    with service(port):
        process = workplace.start(arguments)
        wait_for(run_dir / "metrics.jsonl", process, seconds=150)
    died = time.monotonic()
    printed, _ = process.communicate(timeout=90)

    assert time.monotonic() - died < 60
    assert process.returncode == 1
    assert "no reward from" in printed
    assert "refused" in printed.lower() or "Cannot connect" in printed
    assert "reward_model_group" not in printed
    assert leftovers(run_dir) == []

    with service(port):
        workplace.run(["--resume", "--run-dir", str(run_dir), "--no-evaluate"])

    assert [step["step"] for step in read_rows(run_dir / "metrics.jsonl")] == [1, 2, 3, 4]
    saved = sorted((run_dir / "checkpoints").iterdir())
    assert [folder.name for folder in saved] == [f"{step:06d}" for step in range(5)]
    assert not any(differs(saved[0], later) for later in saved[1:])
