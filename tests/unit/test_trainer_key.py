"""A service that requires a key: the trainer sends it and writes it to no file or log."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reward_runs.errors import ConfigError
from reward_trainer import preflight, service_probe
from reward_trainer.config import make_config
from reward_trainer.openrlhf import api_key
from reward_trainer.openrlhf.environment import cpu_environment
from tests.json_server import Received, json_server
from tests.unit.test_trainer_checks import BUDGET, CPU, config, info, recipe

RUN = Path(__file__).parents[2] / "trainer" / "run.py"


@pytest.fixture
def service() -> Iterator[tuple[str, list[str | None]]]:
    """A ready service without recipes; yields its address without scheme, and the credentials that it receives."""
    sent: list[str | None] = []

    def answer(request: Received) -> tuple[int, Any]:
        sent.append(request.headers["authorization"])
        if request.method == "POST":
            return 200, {"rewards": [0.5]}
        return 200, info().model_dump(mode="json") if request.path == "/info" else {"status": "ready"}

    with json_server(answer) as url:
        yield url.removeprefix("http://"), sent


@pytest.mark.slow
@pytest.mark.parametrize("in_url", [True, False])
def test_the_launcher_sends_the_key_and_does_not_print_or_store_it(
    service: tuple[str, list[str | None]], in_url: bool, tmp_path: Path
) -> None:
    address, sent = service
    url = f"http://key:s3cret@{address}" if in_url else f"http://{address}"
    env = {name: value for name, value in os.environ.items() if name != "GLASSBOX_API_KEY"}
    env |= {} if in_url else {"GLASSBOX_API_KEY": "s3cret"}
    command = [sys.executable, str(RUN), "--reward-url", url, "--run-dir", str(tmp_path / "run")]

    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert "the service has no recipe" in done.stderr
    assert set(sent) == {"Bearer s3cret"}
    assert "s3cret" not in done.stdout + done.stderr
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any("s3cret" in text for text in written)


def test_the_trial_request_sends_the_key_as_openrlhf_does(
    service: tuple[str, list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, sent = service
    monkeypatch.setenv("GLASSBOX_API_KEY", "s3cret")

    assert service_probe.trial_reward(f"http://{address}/get_reward", ["p"], ["{}"]) is None

    assert sent == ["Basic " + base64.b64encode(b"key:s3cret").decode()]


def test_settings_cannot_contain_a_key() -> None:
    """Settings are written to config.json, the report and messages."""
    with pytest.raises(ConfigError, match="GLASSBOX_API_KEY") as caught:
        make_config("demo", {"reward_url": "http://key:s3cret@host", "run_dir": "x"})

    assert "s3cret" not in str(caught.value)


def test_without_a_key_the_environment_of_openrlhf_is_unchanged() -> None:
    assert api_key.environment({"PATH": "/bin"}) == {"PATH": "/bin"}


def test_a_run_on_a_cpu_with_a_key_has_both_hooks() -> None:
    both = cpu_environment(
        api_key.environment({"GLASSBOX_API_KEY": "k", "PYTHONPATH": "/mine"}),
        n_devices=1,
        n_threads=1,
        rollouts_per_batch=1,
    )

    hook, *packages = both["PYTHONPATH"].split(os.pathsep)
    assert Path(hook, "sitecustomize.py").is_file()
    assert packages[-1] == "/mine"
    for package in ("reward_trainer", "reward_runs", "reward_evidence", "reward_client"):
        assert any(Path(folder, package).is_dir() for folder in packages)
    assert set(both["GLASSBOX_HOOKS"].split()) == {"cpu", "api-key"}


def test_a_key_with_an_existing_ray_cluster_is_a_problem() -> None:
    cluster = {"RAY_ADDRESS": "10.0.0.1:6379"}
    assert preflight.find_problems(config(), info(recipe()), BUDGET, CPU, cluster) == []

    with_key = {**cluster, "GLASSBOX_API_KEY": "s3cret"}
    (problem,) = preflight.find_problems(config(), info(recipe()), BUDGET, CPU, with_key)

    assert "RAY_ADDRESS" in problem
    assert "s3cret" not in problem
