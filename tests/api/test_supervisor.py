"""The parent that holds the socket: whatever happens to the process that serves, no caller is refused."""

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
    MAX_RESTARTS,
    MIN_START_INTERVAL_S,
    RESTART_STATUS,
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
    """A process of ours, and what it has written."""

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

    def child(self) -> psutil.Process:
        """The process that serves."""
        [child] = psutil.Process(self.process.pid).children()
        return child


def _heed_hangups() -> None:
    """Whatever the tests were started by: under nohup they would be ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def started(arguments: Sequence[str]) -> Iterator[Running]:
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_hangups) as process:
        running = Running(process)
        reader = threading.Thread(target=lambda: running.lines.extend(iter(process.stderr.readline, "")))  # type: ignore[union-attr]
        reader.start()
        try:
            yield running
        finally:
            process.kill()  # a child of it ends by itself then
            reader.join()


@pytest.fixture
def service() -> Iterator[Running]:
    """The service without models, once it answers."""
    with started(WITHOUT_MODELS) as running:
        until(lambda: "listening on" in running.log or running.process.poll() is not None, 60)
        assert httpx.get(f"{running.url}/readyz", timeout=60).is_success
        yield running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_serving_process_that_ends_is_replaced_and_nobody_is_refused(service: Running, number: int) -> None:
    url, body = service.url, {"items": [item("one two three")]}
    before = service.child()
    right = httpx.post(f"{url}/score", json=body).json()["rewards"]
    before.send_signal(number)
    before.wait(30)

    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(httpx.post, f"{url}/score", json=body, timeout=60) for _ in range(64)]

    assert [answer.result().json()["rewards"] for answer in answers] == [right] * 64
    assert service.child().pid != before.pid
    assert metric(url, "glassbox_process_restarts") == 1


def test_a_hangup_replaces_the_process_after_its_drain(service: Running) -> None:
    before = service.child()
    service.process.send_signal(signal.SIGHUP)
    before.wait(30)

    assert httpx.get(f"{service.url}/readyz", timeout=60).is_success
    assert service.child().pid != before.pid


def test_a_service_that_was_started_to_outlive_its_terminal_does() -> None:
    command = [
        "-c",
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        f"os.execv(sys.executable, [sys.executable, *{WITHOUT_MODELS!r}])",
    ]
    with started(command) as running:
        until(lambda: "listening on" in running.log, 60)
        assert httpx.get(f"{running.url}/readyz", timeout=60).is_success
        child = running.child()
        for process in (running.process, child):
            process.send_signal(signal.SIGHUP)
        running.process.send_signal(signal.SIGCHLD)  # whatever else wakes it

        assert httpx.get(f"{running.url}/readyz", timeout=60).is_success
        assert running.child() == child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_both_end_and_the_address_is_free(service: Running, number: int) -> None:
    child = service.child()
    service.process.send_signal(number)

    assert service.process.wait(30) == 0
    assert not child.is_running()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_server((host, int(port))):
        pass


def test_a_child_does_not_outlive_its_parent(service: Running) -> None:
    child = service.child()
    service.process.kill()

    child.wait(30)


def test_settings_it_cannot_start_with_end_it_with_their_reason_and_no_second_try() -> None:
    with started([*SERVICE, "--default-recipe", "best"]) as running:
        assert running.process.wait(60) == 1

    assert "unknown recipe 'best'" in running.log
    assert running.log.count("unknown recipe") == 1


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started([*WITHOUT_MODELS, "--port", str(port)]) as running:
            assert running.process.wait(60) == 1

    assert f"cannot listen on 127.0.0.1:{port}" in running.log
    assert "Traceback" not in running.log


HANGS = """
import os, sys, time
os.write(int(sys.argv[-1].split(",")[1]), b".")
print("child", os.getpid(), file=sys.stderr, flush=True)
time.sleep(600)
"""
PARENT = f"""
import socket, sys
from reward_service.process.supervisor import Supervisor
listener = socket.create_server(("127.0.0.1", 0))
sys.exit(Supervisor([sys.executable, "-c", {HANGS!r}], listener, 0, heartbeat_timeout_s=0.2).run())
"""


def test_a_process_without_a_sign_of_life_is_killed_and_replaced() -> None:
    with started(["-c", PARENT]) as running:
        until(lambda: len(re.findall(r"child \d+", running.log)) == 2)
        pids = [int(pid) for pid in re.findall(r"child (\d+)", running.log)]
        running.process.terminate()
        running.process.wait(30)

    assert len(set(pids)) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_model_that_is_gone_for_good_ends_the_process_that_serves() -> None:
    settings = Settings(port=0, gold="none", batch_timeout_s=0.1, max_model_restarts=0)
    gate = threading.Event()
    app = create_app(settings, encoder_loader=lambda _: LetterEncoder(gate=gate))
    server = server_for(app, settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]

    refusal = httpx.post(f"http://127.0.0.1:{port}/score", json={"items": [item()]}, timeout=30)

    thread.join(30)
    assert refusal.status_code in {500, 503}
    assert server.needs_restart
    gate.set()


def test_a_crash_is_followed_by_another_start_but_not_at_once() -> None:
    for status in (-signal.SIGKILL, -signal.SIGSEGV, 0, 1, RESTART_STATUS):
        assert restart_delay_s(WorkerExit(seconds=60, served=True, status=status), 0, ever_served=True) == 0
        assert (
            restart_delay_s(WorkerExit(seconds=1, served=True, status=status), 0, ever_served=True)
            == MIN_START_INTERVAL_S - 1
        )


def test_what_could_not_start_or_dies_again_and_again_is_given_up() -> None:
    assert restart_delay_s(WorkerExit(seconds=60, served=False, status=1), 0, ever_served=False) is None
    assert (
        restart_delay_s(WorkerExit(seconds=STABLE_S, served=True, status=-9), MAX_RESTARTS, ever_served=True)
        is None
    )
    assert (
        restart_delay_s(WorkerExit(seconds=1, served=False, status=-signal.SIGKILL), 0, ever_served=False)
        is not None
    )


def test_what_keeps_a_service_from_starting_that_ran_before_may_pass() -> None:
    assert (
        restart_delay_s(WorkerExit(seconds=2, served=False, status=1), 0, ever_served=True)
        == MIN_START_INTERVAL_S - 2
    )
