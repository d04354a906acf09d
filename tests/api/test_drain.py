"""SIGTERM under load, with the real process: every call is answered right, or not at all."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_service.app import create_app
from reward_service.settings import Settings
from tests.doubles import LengthGold, LetterEncoder
from tests.live import item, until

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "reward_service", "--port", "0", "--encoder", "none", "--gold", "none"]


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m reward_service` without models, and its URL."""
    command = [*COMMAND, "--default-recipe", "li-rp"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        lines: list[str] = []
        reader = threading.Thread(target=lines.extend, args=(running.stderr,))
        reader.start()
        try:
            until(lambda: re.search(r"http://\S+:\d+", "".join(lines)) or running.poll() is not None, 60)
            found = re.search(r"http://\S+:\d+", "".join(lines))
            assert found, "".join(lines)
            yield running, found[0]
        finally:
            running.kill()
            reader.join()


def test_sigterm_under_load_loses_and_falsifies_nothing(process: tuple[subprocess.Popen[str], str]) -> None:
    running, url = process
    body = {"items": [item("word " * n) for n in range(1, 400)]}
    right = httpx.post(f"{url}/score", json=body, timeout=60).json()["rewards"]
    answered: list[httpx.Response] = []
    stop = threading.Event()

    def keep_asking() -> str:
        with httpx.Client() as client:
            while not stop.is_set():
                try:
                    answered.append(client.post(f"{url}/score", json=body, timeout=30))
                except httpx.ConnectError:
                    return "refused"
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as exc:
                    return f"closed: {exc}"
        return "still answered"

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(keep_asking) for _ in range(8)]
        until(lambda: len(answered) > 20)
        running.send_signal(signal.SIGTERM)
        running.wait(timeout=30)
        stop.set()
        ends = [caller.result() for caller in callers]

    for answer in answered:
        assert answer.status_code in {200, 503}
        if answer.status_code == 200:
            assert answer.json()["rewards"] == right
        else:
            assert "retry-after" in answer.headers
    assert "still answered" not in ends
    assert not [end for end in ends if "incomplete" in end]


def test_told_to_stop_it_takes_nothing_new_and_lets_go_of_what_it_holds() -> None:
    loads = threading.Event()

    def load(_: Settings) -> LetterEncoder:
        loads.wait(30)
        return LetterEncoder()

    app = create_app(Settings(), encoder_loader=load, gold_loader=lambda _: LengthGold())
    openrlhf = {"query": "Why?a", "prompts": "Why?"}
    with TestClient(app, "http://localhost") as client, ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.post, "/get_reward", json=openrlhf)
        until(lambda: 'glassbox_held_requests{protocol="openrlhf"} 1.0' in client.get("/metrics").text)
        app.state.pipeline.drain.begin()

        assert held.result().status_code == 503
        refused = [
            client.get("/readyz"),
            client.post("/score", json={}),
            client.post("/get_reward", json=openrlhf),
        ]
        loads.set()
    assert [answer.status_code for answer in refused] == [503] * 3
    assert all(
        "about to stop" in answer.json()["detail"] and "retry-after" in answer.headers for answer in refused
    )
