"""Agent Lightning's gateway, controller and rollout manager, with an agent that reports the service's rewards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from agentlightning.verl.agl_rollout_manager import AglRolloutManager, CompletedRollout

from reward_client.adapters.agent_lightning import report
from tests.frameworks.conftest import API_KEY
from tests.frameworks.process import ROOT, ServiceProcess

GATEWAY_KEY = "key-of-the-gateway"
VARIABLES = ("QUESTION", "ANSWER", "REFERENCE", "GLASSBOX_URL", "GLASSBOX_API_KEY", "GLASSBOX_DEADLINE_S")
"""Variables of the agent that Agent Lightning takes from the row of the data set."""
ROW = {
    "QUESTION": "What is two plus two?",
    "ANSWER": "Four.",
    "REFERENCE": "Four e e",
    "GLASSBOX_API_KEY": API_KEY,
    "GLASSBOX_DEADLINE_S": "60",
}
START_S = 60.0


class Agent:
    """The agent that the controller starts in a process for each rollout."""

    def run(self) -> None:
        report(os.environ["QUESTION"], os.environ["ANSWER"], os.environ["REFERENCE"])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of Agent Lightning's gateway, whose controller runs agents on this machine."""
    folder = tmp_path_factory.mktemp("agent-lightning")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    commands = {
        "server": ["host=127.0.0.1", f"port={port}", f"key={GATEWAY_KEY}"],
        "controller": [
            "runner_type=local",
            "local_runner.poll_interval=0.2",
            f"agl_server.url={url}",
            f"agl_server.key={GATEWAY_KEY}",
        ],
    }
    processes = []
    try:
        for name, options in commands.items():
            quiet = [f"hydra.run.dir={folder}", "hydra.output_subdir=null"]
            with (folder / f"{name}.txt").open("wb") as log:
                command = [sys.executable, "-m", f"agentlightning.{name}", *options, *quiet]
                processes.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
        _wait_until_ready(url, folder)
        yield url
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def _wait_until_ready(url: str, folder: Path) -> None:
    give_up = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(f"{url}/healthz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < give_up, (folder / "server.txt").read_text()
        time.sleep(0.05)


def roll_out(gateway: str, *rows: dict[str, str]) -> list[CompletedRollout]:
    """Run an agent for each row, and return what Agent Lightning's trainer gets, in the order of the rows."""
    manager = AglRolloutManager(
        agl_base_url=gateway,
        agl_key=GATEWAY_KEY,
        model="none",
        step=1,
        poll_interval_seconds=0.2,
        local_agent_class="tests.frameworks.test_agent_lightning:Agent",
        local_env_map={name: f"input.{name}" for name in VARIABLES},
    )
    columns: dict[str, Any] = {name: [(ROW | row)[name] for row in rows] for name in VARIABLES}
    completed = manager.enqueue_and_wait_until_completed(columns, is_train=True)
    return sorted(completed, key=lambda one: one.sample_idx_in_step)


def test_the_trainer_gets_the_reward_of_the_service_and_the_event_has_the_features(
    gateway: str, service: ServiceProcess
) -> None:
    fields = {"prompt": ROW["QUESTION"], "reference": ROW["REFERENCE"], "query_type": "closed_ended"}
    (result,) = service.score([fields | {"response": ROW["ANSWER"]}])["results"]

    (rollout,) = roll_out(gateway, {"GLASSBOX_URL": service.url})

    assert rollout.final_reward == pytest.approx(result["reward"], rel=1e-6)
    (event,) = rollout.events
    applicable = {name: value for name, value in result["features"].items() if value is not None}
    assert event["data"] | {"source": "glassbox", "features": pytest.approx(applicable)} == event["data"]


def test_a_service_that_is_away_for_a_while_costs_no_reward(gateway: str, service: ServiceProcess) -> None:
    with service.away():
        (rollout,) = roll_out(gateway, {"GLASSBOX_URL": service.url})

    assert rollout.final_reward is not None


def test_a_failure_is_a_failed_rollout_without_a_reward(
    gateway: str, service: ServiceProcess, keyed_service: ServiceProcess, nan_service: ServiceProcess
) -> None:
    """Away for good, an answer that cannot be scored, NaN, a wrong key; the last one is right."""
    rollouts = roll_out(
        gateway,
        {"GLASSBOX_URL": "http://127.0.0.1:9", "GLASSBOX_DEADLINE_S": "0.5"},
        {"GLASSBOX_URL": service.url, "QUESTION": ""},
        {"GLASSBOX_URL": nan_service.url, "GLASSBOX_DEADLINE_S": "2"},
        {"GLASSBOX_URL": keyed_service.url, "GLASSBOX_API_KEY": "another-key"},
        {"GLASSBOX_URL": keyed_service.url},
    )

    assert [str(one.rollout_state) for one in rollouts] == [*["failed"] * 4, "succeeded"]
    assert [one.final_reward is None for one in rollouts] == [*[True] * 4, False]
    assert [len(one.events) for one in rollouts] == [0, 0, 0, 0, 1]
