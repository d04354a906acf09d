"""A Docker engine, and a compose project for tests with its own key, ports and folder.

engine()  the running engine, or one that `shared/tools/docker-up` starts and stops at the end
Stack     `docker compose …` with the settings of the test only: no .env, no GLASSBOX_… of the shell
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reward_client import RetryPolicy, RewardClient
from reward_client.network import free_port
from tools.console import log

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "glassbox-test"
COMMAND_S = 120
"""Default time limit of a command, in seconds."""


class CheckError(Exception):
    """A check failed; the message names the check and the cause."""


def run(*command: str, timeout: float = COMMAND_S, env: dict[str, str] | None = None) -> str:
    """Run `command` and return its output; raise CheckError with the output when it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout, cwd=ROOT, env=env
        )
    except subprocess.TimeoutExpired as exc:
        raise CheckError(f"{' '.join(command)}: not finished within {timeout:.0f} s") from exc
    if done.returncode != 0:
        raise CheckError(f"{' '.join(command)} ({done.returncode}):\n{(done.stdout + done.stderr)[-6000:]}")
    return done.stdout


# The engine --------------------------------------------------------------------------------------------------


def engine_problem() -> str | None:
    """None when an engine is running, else the error of `docker info`."""
    if shutil.which("docker") is None:
        return "the docker command is not installed"
    try:
        run("docker", "info", timeout=20)
    except CheckError as exc:
        return str(exc).strip().splitlines()[-1]
    return None


@contextmanager
def engine() -> Iterator[None]:
    """Ensure that an engine is running; one that is started here is stopped at the end."""
    cause = engine_problem()
    if cause is None:
        yield
        return
    helper = Path(os.environ.get("GLASSBOX_SHARED", ROOT.parent / "shared")) / "tools" / "docker-up"
    if not helper.is_file():
        raise SystemExit(
            f"compose-test needs Docker, and no engine is running ({cause}). Install Docker Engine 24 or newer "
            "with the compose plugin 2.24 or newer, start it, and run `make compose-test` again."
        )
    started = time.monotonic()
    # pip's settings of this shell are passed to the base image, which does not have a constraints file they name.
    run(str(helper), timeout=600, env=os.environ | {"PIP_CONSTRAINT": ""})
    log(f"      started an engine ({time.monotonic() - started:.0f} s)")
    try:
        yield
    finally:
        run(str(helper), "down")


# The stack ---------------------------------------------------------------------------------------------------


class Stack:
    """A compose project with its own key, ports and folder."""

    def __init__(self, folder: Path, training: str) -> None:
        self.key = secrets.token_urlsafe(24)
        self.port, self.prometheus_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.url_with_key = f"http://key:{self.key}@127.0.0.1:{self.port}"
        self.runs = ROOT / "runs" / "compose-test"
        keys = folder / "api_keys.txt"
        keys.write_text(f"{self.key}\n", encoding="utf-8")
        self._uid = os.getuid() or 1000
        self._settings = {
            "GLASSBOX_PORT": str(self.port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
            "GLASSBOX_API_KEYS_FILE": str(keys),
            "GLASSBOX_UID": str(self._uid),
            "GLASSBOX_GID": str(self._uid),
            "GLASSBOX_TAG": "test",
            "GLASSBOX_RUNS": str(self.runs),
            "TRAINER_ARGUMENTS": training,
        }
        self._env_file = folder / "env"
        self._env_file.write_text("".join(f"{k}={v}\n" for k, v in self._settings.items()), encoding="utf-8")
        self._readable(folder, keys)
        self._make_runs()

    def _readable(self, folder: Path, keys: Path) -> None:
        folder.chmod(0o755)
        keys.chmod(0o400)
        if os.getuid() == 0:
            os.chown(keys, self._uid, self._uid)

    def _make_runs(self) -> None:
        shutil.rmtree(self.runs, ignore_errors=True)
        self.runs.mkdir(parents=True)
        if os.getuid() == 0:
            os.chown(self.runs, self._uid, self._uid)

    def compose(self, *arguments: str, timeout: float = COMMAND_S) -> str:
        """`docker compose …` on this project, with every profile."""
        files = ("-p", PROJECT, "--env-file", str(self._env_file), "--profile", "*")
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in self._settings and not name.startswith(("GLASSBOX_", "REWARD_"))
        }
        return run("docker", "compose", *files, *arguments, timeout=timeout, env=environment)

    def containers(self, service: str) -> list[str]:
        """Ids of the containers of `service`."""
        return self.compose("ps", "-aq", service).split()

    def client(self, budget_s: float = 30.0) -> RewardClient:
        """A client of the published port."""
        return RewardClient(self.url_with_key, retry=RetryPolicy(budget_s=budget_s))

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("down", "--volumes", "--timeout", "20", "--remove-orphans", timeout=180)


def require(condition: bool, sentence: str) -> None:
    """Raise CheckError with `sentence` unless `condition`."""
    if not condition:
        raise CheckError(sentence)
