"""A service that wants a key: the trainer sends it, and writes it nowhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reward_runs.errors import ConfigError
from reward_trainer import preflight
from reward_trainer.config import make_config
from reward_trainer.openrlhf import api_key
from reward_trainer.openrlhf.cpu import environment as cpu_environment
from tests.unit.test_trainer_checks import CPU, ROOM, config, info, recipe

RUN = Path(__file__).parents[2] / "trainer" / "run.py"


@pytest.fixture
def service() -> Iterator[tuple[str, list[str | None]]]:
    """A service that is ready and knows no recipe; its address without scheme, and the credentials it was sent."""
    sent: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(info().model_dump(mode="json") if self.path == "/info" else {"status": "ready"})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._reply({"rewards": [0.5]})

        def _reply(self, content: Any) -> None:
            sent.append(self.headers["authorization"])
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", sent
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("in_url", [True, False])
def test_the_launcher_sends_the_key_and_shows_it_nowhere(
    service: tuple[str, list[str | None]], in_url: bool, tmp_path: Path
) -> None:
    address, sent = service
    url = f"http://key:s3cret@{address}" if in_url else f"http://{address}"
    env = {name: value for name, value in os.environ.items() if name != "GLASSBOX_API_KEY"}
    env |= {} if in_url else {"GLASSBOX_API_KEY": "s3cret\n"}
    command = [sys.executable, str(RUN), "--reward-url", url, "--run-dir", str(tmp_path / "run")]

    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert "the service knows no recipe" in done.stderr
    assert sent == ["Bearer s3cret"] * 2
    assert "s3cret" not in done.stdout + done.stderr
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any("s3cret" in text for text in written)


def test_the_trial_reward_is_asked_for_with_the_key_as_openrlhf_sends_it(
    service: tuple[str, list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, sent = service
    monkeypatch.setenv("GLASSBOX_API_KEY", "s3cret")

    assert preflight.trial_reward(f"http://{address}/get_reward", ["p"], ["{}"]) is None

    assert sent == ["Basic " + base64.b64encode(b"key:s3cret").decode()]


def test_no_setting_of_a_run_can_hold_a_key() -> None:
    """Settings go into config.json, the report and messages."""
    with pytest.raises(ConfigError, match="GLASSBOX_API_KEY") as caught:
        make_config("demo", {"reward_url": "http://key:s3cret@host", "run_dir": "x"})

    assert "s3cret" not in str(caught.value)


def test_without_a_key_openrlhf_runs_in_the_environment_it_was_given() -> None:
    assert api_key.environment({"PATH": "/bin"}) == {"PATH": "/bin"}


def test_a_run_on_a_cpu_has_both_preparations() -> None:
    both = cpu_environment(
        api_key.environment({"GLASSBOX_API_KEY": "k", "PYTHONPATH": "/mine"}),
        n_devices=1,
        n_threads=1,
        rollouts_per_batch=1,
    )

    hook, *packages = both["PYTHONPATH"].split(os.pathsep)
    assert Path(hook, "sitecustomize.py").is_file()
    assert packages[-1] == "/mine"
    for package in ("reward_trainer", "reward_client"):
        assert any(Path(folder, package).is_dir() for folder in packages)
    assert set(both["GLASSBOX_INSIDE"].split()) == {"cpu", "reward-key"}


def test_workers_that_cannot_be_given_the_key_are_found_out_before_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert preflight.problems(config(), info(recipe()), ROOM, CPU) == []

    monkeypatch.setenv("GLASSBOX_API_KEY", "s3cret")
    (problem,) = preflight.problems(config(), info(recipe()), ROOM, CPU)

    assert "RAY_ADDRESS" in problem
    assert "s3cret" not in problem
