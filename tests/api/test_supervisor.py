"""The supervisor: it restarts the worker and keeps the socket open, so that no connection is refused."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import psutil
import pytest

from reward_service.app import create_app
from reward_service.process.server import server_for
from reward_service.process.supervisor import (
    EXIT_BROKEN,
    MAX_RESTARTS,
    MIN_RESTART_INTERVAL_S,
    STABLE_S,
    WorkerExit,
    restart_delay_s,
)
from reward_service.settings import Settings
from tests.doubles import LetterEncoder
from tests.live import item, metric, until

pytestmark = pytest.mark.slow

SERVICE = ["-m", "reward_service", "--port", "0", "--encoder", "none", "--gold", "none"]
WITHOUT_MODELS = [*SERVICE, "--default-recipe", "li-rp"]


@dataclass
class Running:
    """A service process and the lines of its log."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str:
        found = re.search(r"http://\S+:\d+", self.log)
        assert found, self.log
        return found[0]

    def worker(self) -> psutil.Process:
        """The only child process of the supervisor."""
        [worker] = psutil.Process(self.process.pid).children()
        return worker


def _reset_sighup() -> None:
    """Restore the default action of SIGHUP, which nohup sets to ignore for the tests and their children."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def started(arguments: Sequence[str]) -> Iterator[Running]:
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_reset_sighup) as process:
        running = Running(process)
        reader = threading.Thread(target=lambda: running.lines.extend(iter(process.stderr.readline, "")))  # type: ignore[union-attr]
        reader.start()
        try:
            yield running
        finally:
            process.kill()  # its worker then ends
            reader.join()


@pytest.fixture
def service() -> Iterator[Running]:
    """The service without models, when it is ready."""
    with started(WITHOUT_MODELS) as running:
        until(lambda: "listening on" in running.log or running.process.poll() is not None, 60)
        assert httpx.get(f"{running.url}/readyz", timeout=60).is_success
        yield running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_is_restarted_and_no_connection_is_refused(service: Running, number: int) -> None:
    url, body = service.url, {"items": [item("one two three")]}
    before = service.worker()
    expected = httpx.post(f"{url}/score", json=body).json()["rewards"]
    before.send_signal(number)
    before.wait(30)

    with ThreadPoolExecutor(16) as pool:
        replies = [pool.submit(httpx.post, f"{url}/score", json=body, timeout=60) for _ in range(64)]

    assert [reply.result().json()["rewards"] for reply in replies] == [expected] * 64
    assert service.worker().pid != before.pid
    assert metric(url, "glassbox_process_restarts") == 1


def test_sighup_restarts_the_worker_after_a_drain(service: Running) -> None:
    before = service.worker()
    service.process.send_signal(signal.SIGHUP)
    before.wait(30)

    assert httpx.get(f"{service.url}/readyz", timeout=60).is_success
    assert service.worker().pid != before.pid


def test_a_service_started_with_sighup_ignored_keeps_running_after_sighup() -> None:
    command = [
        "-c",
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        f"os.execv(sys.executable, [sys.executable, *{WITHOUT_MODELS!r}])",
    ]
    with started(command) as running:
        until(lambda: "listening on" in running.log, 60)
        assert httpx.get(f"{running.url}/readyz", timeout=60).is_success
        worker = running.worker()
        for process in (running.process, worker):
            process.send_signal(signal.SIGHUP)
        running.process.send_signal(
            signal.SIGCHLD
        )  # wakes the supervisor, which would then act on a recorded SIGHUP

        assert httpx.get(f"{running.url}/readyz", timeout=60).is_success
        assert running.worker() == worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_both_processes_and_frees_the_address(service: Running, number: int) -> None:
    worker = service.worker()
    service.process.send_signal(number)

    assert service.process.wait(30) == 0
    assert not worker.is_running()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_server((host, int(port))):
        pass


def test_the_worker_ends_when_its_supervisor_is_killed(service: Running) -> None:
    worker = service.worker()
    service.process.kill()

    worker.wait(30)


def test_an_invalid_setting_ends_the_supervisor_with_the_reason_and_without_a_restart() -> None:
    with started([*SERVICE, "--default-recipe", "best"]) as running:
        assert running.process.wait(60) == 1

    assert "unknown recipe 'best'" in running.log
    assert running.log.count("unknown recipe") == 1


def test_the_error_names_an_address_that_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started([*WITHOUT_MODELS, "--port", str(port)]) as running:
            assert running.process.wait(60) == 1

    assert f"cannot listen on 127.0.0.1:{port}" in running.log
    assert "Traceback" not in running.log


HANGS = """
import os, sys, time
os.write(int(sys.argv[-1].split(",")[1]), b".")
print("worker", os.getpid(), file=sys.stderr, flush=True)
time.sleep(600)
"""
PARENT = f"""
import socket, sys
from reward_service.process.supervisor import Supervisor
listener = socket.create_server(("127.0.0.1", 0))
sys.exit(Supervisor([sys.executable, "-c", {HANGS!r}], listener, 0, heartbeat_timeout_s=0.2).run())
"""


def test_a_worker_without_heartbeat_is_killed_and_restarted() -> None:
    with started(["-c", PARENT]) as running:
        until(lambda: len(re.findall(r"worker \d+", running.log)) == 2)
        pids = [int(pid) for pid in re.findall(r"worker (\d+)", running.log)]
        running.process.terminate()
        running.process.wait(30)

    assert len(set(pids)) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_model_that_failed_permanently_stops_the_server() -> None:
    settings = Settings(port=0, gold="none", batch_timeout_s=0.1, max_model_restarts=0)
    gate = threading.Event()
    app = create_app(settings, encoder_loader=lambda _: LetterEncoder(gate=gate))
    server = server_for(app, settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]

    response = httpx.post(f"http://127.0.0.1:{port}/score", json={"items": [item()]}, timeout=30)

    thread.join(30)
    assert response.status_code in {500, 503}
    assert server.broken
    gate.set()


def test_a_crashed_worker_is_restarted_after_the_minimum_interval() -> None:
    for status in (-signal.SIGKILL, -signal.SIGSEGV, 0, 1, EXIT_BROKEN):
        assert restart_delay_s(WorkerExit(seconds=60, served=True, status=status), 0, ever_served=True) == 0
        assert (
            restart_delay_s(WorkerExit(seconds=1, served=True, status=status), 0, ever_served=True)
            == MIN_RESTART_INTERVAL_S - 1
        )


def test_there_is_no_restart_after_a_failed_first_start_or_too_many_restarts() -> None:
    assert restart_delay_s(WorkerExit(seconds=60, served=False, status=1), 0, ever_served=False) is None
    assert (
        restart_delay_s(WorkerExit(seconds=STABLE_S, served=True, status=-9), MAX_RESTARTS, ever_served=True)
        is None
    )
    assert (
        restart_delay_s(WorkerExit(seconds=1, served=False, status=-signal.SIGKILL), 0, ever_served=False)
        is not None
    )


def test_a_failed_start_is_retried_when_an_earlier_worker_served() -> None:
    assert (
        restart_delay_s(WorkerExit(seconds=2, served=False, status=1), 0, ever_served=True)
        == MIN_RESTART_INTERVAL_S - 2
    )
