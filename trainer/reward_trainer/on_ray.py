"""Runs one command on a machine of a Ray cluster: python -m reward_trainer.on_ray OPTIONS -- COMMAND

    this process ──▶ Ray: an actor with the CPUs, GPUs and other resources ──▶ COMMAND, on that actor's machine
         ▲─────────────── its output, line by line, and its exit status ──────────┘
    SIGTERM, SIGINT ─▶ SIGTERM to the command, STOP_S, SIGKILL; if this process is killed, Ray kills the command

A study starts one for each run if its file has `ray`. This machine must belong to the cluster, the command must
exist on every machine, and the machines must share the file system of the study's folder.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

STOP_S = 80.0
"""Seconds between SIGTERM and SIGKILL; a study waits for ten more."""
_NOTICE_S = 30.0
"""Seconds without a machine after which a line says what the command waits for."""
_CONNECT_S = 10.0
_STOPPED = 128 + signal.SIGTERM


class RemoteCommand:
    """A command on the machine of this object, an actor of Ray. `run` and `stop` are called in two threads."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: str) -> None:
        self._command = command
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._environment = {**own, **environment}
        self._folder = folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def place(self) -> str:
        """Name of the machine."""
        return os.uname().nodename

    def run(self) -> Iterator[str | int]:
        """The lines that the command writes, then its exit status."""
        if not Path(self._folder).is_dir():
            yield f"error: {self.place()} has no folder {self._folder}: the machines must share its file system\n"
            yield 1
            return
        try:
            process = self._start()
        except OSError as exc:
            yield f"error: {self.place()} cannot start {self._command[0]}: {exc.strerror}\n"
            yield 1
            return
        if process is None or process.stdout is None:
            yield _STOPPED
            return
        for line in process.stdout:  # noqa: UP028 - Ray calls `send`, which a file does not have
            yield line
        yield process.wait()

    def _start(self) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._stopped:
                return None
            self._process = subprocess.Popen(  # noqa: S603 - the command of the study
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            return self._process

    def stop(self) -> None:
        """End the command and all processes of its session."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            os.killpg(process.pid, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status; 1 if the cluster cannot be used or lost the command."""
    options = _parsed(arguments)
    try:
        _check_reachable(options.address)
        ray.init(address=options.address, log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError) as exc:
        _say(f"error: the Ray cluster at {options.address} cannot be used: {exc}")
        return 1
    signal.signal(signal.SIGTERM, _interrupt)  # after `ray.init`, which sets another handler
    actor = _actor(options)
    is_placed = False
    try:
        _wait_for_machine(actor, options)
        is_placed = True
        return _followed(actor)
    except KeyboardInterrupt:
        with suppress(RayError):
            if is_placed:
                ray.get(actor.stop.remote(), timeout=STOP_S + 5)
            else:
                ray.kill(actor)
        return _STOPPED
    except RayError as exc:
        _say(f"error: the cluster lost the process of this run: {' '.join(str(exc).split())}")
        return 1


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("on_ray", description="Run one command on a machine of a Ray cluster.")
    add = parser.add_argument
    add("--address", default="auto", help="of the cluster (default: that of this machine)")
    add("--cpus", type=float, default=1)
    add("--gpus", type=float, default=0)
    add("--resources", type=json.loads, default={}, help='other resources, as JSON: {"big": 1}')
    add("command", nargs="+")
    return parser.parse_args(arguments)


def _check_reachable(address: str) -> None:
    """Raise OSError when nothing listens at `HOST:PORT`; Ray itself would try for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), _CONNECT_S).close()


def _actor(options: argparse.Namespace) -> Any:
    remote = ray.remote(RemoteCommand).options(
        num_cpus=options.cpus,
        num_gpus=options.gpus,
        resources=options.resources or None,
        max_concurrency=2,  # `run` and `stop`
    )
    return remote.remote(options.command, _passed_on(os.environ), str(Path.cwd()))


def _passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings of this project and of the hub; the others, such as the devices, are the machine's."""
    names = ("GLASSBOX_", "HF_", "PYTHONPATH")
    return {name: value for name, value in environment.items() if name.startswith(names)}


def _wait_for_machine(actor: Any, options: argparse.Namespace) -> None:
    place = actor.place.remote()
    ready, _ = ray.wait([place], timeout=_NOTICE_S)
    if not ready:
        needs = {"CPU": options.cpus, "GPU": options.gpus, **options.resources}
        _say(f"waiting for a machine of the cluster that has free: {json.dumps(needs)}")
    _say(f"runs on {ray.get(place)}")


def _followed(actor: Any) -> int:
    status = 1
    for reference in actor.run.options(num_returns="streaming").remote():
        part = ray.get(reference)
        if isinstance(part, int):
            status = part
        else:
            sys.stdout.write(part)
            sys.stdout.flush()
    return status if status >= 0 else 128 - status


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
