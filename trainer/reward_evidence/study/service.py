"""The reward service of a study: one that runs already, or a child process for as long as the study runs."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from reward_client.network import free_port
from reward_client.writing import writing
from reward_evidence.study.errors import StudyError
from reward_evidence.study.spec import Service

SERVE = (sys.executable, "-m", "reward_client.cli", "serve")
START_S = 600.0
"""Seconds: a gold model of the hub may have to be downloaded."""
_STOP_S = 30.0
_POLL_S = 0.2
_TAIL_CHARS = 1500

Check = Callable[[], None]
"""Raises StudyError when the service has ended."""


@contextmanager
def reward_service(
    service: Service, log: Path, say: Callable[[str], None], serve: tuple[str, ...] = SERVE
) -> Iterator[tuple[str, Check]]:
    """Yield the address of a service that is ready, and a check that it still runs.

    Raises StudyError when a started one ends, or is not ready within ten minutes.
    """
    if service.url is not None:
        yield service.url, lambda: None
        return
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    say(f"starting the reward service at {url}; its output is in {log}")
    with writing(log):
        opened = log.open("ab")
    with opened as output:
        process = subprocess.Popen(  # noqa: S603 - our interpreter; options are those of the study's author
            [*serve, "--port", str(port), "--log-level", "warning", *service.options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the study only, which stops the runs first
        )
    try:
        _wait_until_ready(url, process, log)
        yield url, lambda: _check_running(process, log)
    finally:
        _stop(process)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while not _is_ready(url):
        _check_running(process, log)
        if time.monotonic() > deadline_s:
            raise StudyError(f"the reward service is not ready after {START_S:.0f} s: {_tail(log)}")
        time.sleep(_POLL_S)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=15.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _check_running(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise StudyError(f"the reward service ended with status {process.returncode}: {_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL_CHARS:]
