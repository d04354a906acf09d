"""Failures of models, clients and the disk: only the affected request fails, and the service stays ready."""

from __future__ import annotations

import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_service.app import create_app
from reward_service.models.protocols import Embeddings, Tokens
from reward_service.settings import Settings
from tests.doubles import LengthGold, LetterEncoder, text_of
from tests.live import Busy, busy_service, item, metric, posted, serving, until


@dataclass
class Faulty(LetterEncoder):
    """Raises MemoryError for "HUGE", and blocks on "HANG" until the test ends."""

    over: threading.Event = field(default_factory=threading.Event)

    def embed(self, batch: Sequence[Tokens]) -> Embeddings:
        vectors = super().embed(batch)
        texts = " ".join(map(text_of, batch))
        if "HUGE" in texts:
            raise MemoryError("tried to allocate 40.00 GiB")
        if "HANG" in texts:
            self.over.wait(60)
        return vectors


def busy(**settings: Any) -> AbstractContextManager[Busy]:
    """A service whose model is busy: requests sent meanwhile form one batch after `release`."""
    return busy_service(Faulty, **settings)


def alone(url: str, response: str) -> float:
    """The reward of `response` in a separate request."""
    return float(score(url, item(response)).json()["rewards"][0])


def score(url: str, *items: Any, **fields: Any) -> httpx.Response:
    return httpx.post(f"{url}/score", json={"items": items} | fields, timeout=30)


def ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz", timeout=30).status_code == 200


# Models ---------------------------------------------------------------------------------------------------------

FAULTS = {"BOOM": "encoder exploded", "NAN": "", "HUGE": "tried to allocate 40.00 GiB"}


@pytest.mark.parametrize(("fault", "cause"), FAULTS.items(), ids=["raises", "NaN", "out of memory"])
def test_a_failing_item_fails_only_its_request_in_a_shared_batch(fault: str, cause: str) -> None:
    with busy() as service:
        bad = service.score(fault)
        good = [service.score(f"neighbour b {n}") for n in range(5)]
        until(lambda: service.waiting_texts() == 6)
        service.release()

        assert bad.result().status_code == 500
        assert cause in bad.result().json()["detail"]
        assert "rewards" not in bad.result().json()
        rewards = [answer.result().json()["rewards"][0] for answer in good]
        assert rewards == [alone(service.url, f"neighbour b {n}") for n in range(5)]
        assert ready(service.url)


@dataclass
class ToldOfProbe(LetterEncoder):
    """Sets an event when the text of the readiness probe is tokenized."""

    probed: threading.Event = field(default_factory=threading.Event)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        if "ready?" in texts:
            self.probed.set()
        return super().tokenize(texts)


def test_an_item_that_fails_its_forward_pass_does_not_make_the_busy_service_unready() -> None:
    gate = threading.Event()
    gate.set()
    encoder = ToldOfProbe(gate=gate)
    with serving(Settings(), encoder) as url, ThreadPoolExecutor() as pool:
        gate.clear()
        encoder.probed.clear()
        bad = pool.submit(score, url, item("BOOM"))
        until(lambda: encoder.calls and any("BOOM" in text for text in encoder.calls[-1]))
        probe = pool.submit(ready, url)
        assert encoder.probed.wait(20)
        httpx.get(f"{url}/healthz")  # the probe waits for the pass that will fail
        gate.set()

        assert bad.result().status_code == 500
        assert probe.result()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_item_is_reported_and_the_others_in_its_request_have_rewards(fault: str) -> None:
    with serving(Settings(), Faulty()) as url:
        reported = score(url, item("a"), item(fault, id="bad"), item("b"), on_item_error="report").json()

        assert [reward is None for reward in reported["rewards"]] == [False, True, False]
        assert reported["results"][1]["id"] == "bad"
        assert reported["results"][1]["error"]
        assert reported["rewards"][2] == alone(url, "b")
        assert metric(url, "glassbox_not_finite_total") == (fault == "NAN")
        assert ready(url)


def test_a_gold_model_that_cannot_be_loaded_fails_only_requests_for_it() -> None:
    def load(_: Settings) -> LengthGold:
        raise OSError("no such weights")

    def refusal() -> str:
        response = client.post("/score", json={"items": [item()], "gold": True})
        assert response.status_code == 503
        return str(response.json()["detail"])

    app = create_app(Settings(), encoder_loader=lambda _: LetterEncoder(), gold_loader=load)
    with TestClient(app, "http://localhost") as client:
        until(lambda: "no such weights" in refusal())  # until its thread has tried, it is loading
        until(lambda: client.post("/score", json={"items": [item()]}).status_code == 200)

        assert "no such weights" in refusal()
        assert client.get("/readyz").status_code == 503


def test_a_pass_that_takes_longer_than_a_probe_waits_is_load() -> None:
    gate = threading.Event()
    gate.set()
    encoder = ToldOfProbe(gate=gate)
    with serving(Settings(ready_timeout_s=0.2), encoder) as url, ThreadPoolExecutor() as pool:
        gate.clear()
        long = pool.submit(score, url, item("a b c d"))
        until(lambda: any("a b c d" in text for call in encoder.calls for text in call))
        probes = [httpx.get(f"{url}/readyz", timeout=30).status_code for _ in range(2)]
        gate.set()

        assert probes == [200, 200]
        assert long.result().status_code == 200


def test_a_pass_that_outlives_every_request_is_not_load() -> None:
    gate = threading.Event()
    gate.set()
    encoder = ToldOfProbe(gate=gate)
    settings = Settings(ready_timeout_s=0.2, request_timeout_s=2)
    with serving(settings, encoder) as url, ThreadPoolExecutor() as pool:
        gate.clear()
        hung = pool.submit(score, url, item("a b c d"))
        until(lambda: any("a b c d" in text for call in encoder.calls for text in call))
        until(lambda: not ready(url), seconds=10)
        gate.set()

        assert hung.result().status_code == 504
        until(lambda: ready(url))


@dataclass
class WithoutProbe(LetterEncoder):
    """Does not tokenize the text of the readiness probe until `over` is set."""

    over: threading.Event = field(default_factory=threading.Event)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        if "ready?" in texts:
            self.over.wait(30)
        return super().tokenize(texts)


def test_a_tokenizer_that_does_not_return_is_not_load() -> None:
    gate = threading.Event()
    encoder = WithoutProbe(gate=gate)
    settings = Settings(gold="none", ready_timeout_s=0.2)
    with serving(settings, encoder, ready=False) as url, ThreadPoolExecutor() as pool:
        long = pool.submit(httpx.post, f"{url}/get_reward", json={"query": "a?b", "prompts": "a?"}, timeout=30)
        until(lambda: encoder.calls)
        probed = ready(url)
        encoder.over.set()
        gate.set()

        assert long.result().status_code == 200
        assert not probed
        until(lambda: ready(url))


def test_a_model_that_computes_nothing_for_others_and_does_not_answer_is_not_ready() -> None:
    gate = threading.Event()
    gate.set()
    with serving(Settings(ready_timeout_s=0.2), ToldOfProbe(gate=gate)) as url:
        gate.clear()
        statuses = [httpx.get(f"{url}/readyz", timeout=30).status_code for _ in range(2)]
        gate.set()

        assert statuses == [503, 503]
        until(lambda: ready(url))


def test_a_hung_model_fails_its_batch_and_is_loaded_again() -> None:
    encoder = Faulty()
    try:
        with serving(Settings(batch_timeout_s=0.3), encoder) as url:
            hung = score(url, item("HANG"))
            after = score(url, item("a b"))

            assert hung.status_code == 500
            assert "hung" in hung.json()["detail"]
            assert "rewards" not in hung.json()
            assert after.status_code in {200, 503}, "503 while it loads"
            until(lambda: ready(url))
            assert score(url, item("a b")).status_code == 200
            assert metric(url, "glassbox_model_restarts_total") == 1
    finally:
        encoder.over.set()


# Clients -------------------------------------------------------------------------------------------------------


@pytest.fixture
def url() -> Iterator[str]:
    with serving(Settings(max_items=4 * 4096)) as url:
        yield url


N_UNREAD = 4 * 4096
"""Items of a request whose response has 9 MB, more than the buffers of a socket."""


@contextmanager
def unread(url: str, n: int) -> Iterator[list[socket.socket]]:
    """Clients that read nothing of a response that is larger than the buffers of a socket."""
    body: dict[str, Any] = {"items": [item("a b c " * 10, id=f"{i}".ljust(256, "x")) for i in range(N_UNREAD)]}
    body["recipe"] = "li-rp"
    clients = [posted(url, "/score", body) for _ in range(n)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


@pytest.mark.slow
def test_clients_that_read_no_response_do_not_block_others(url: str) -> None:
    with unread(url, 2):
        until(lambda: metric(url, "glassbox_items_total") == 2 * N_UNREAD, seconds=90)

        assert score(url, item()).status_code == 200
        assert ready(url)
    until(lambda: metric(url, "glassbox_request_bytes") == 0)


@pytest.mark.slow
def test_an_unread_response_is_charged_until_it_has_been_read(url: str) -> None:
    with unread(url, 1) as [client]:
        until(lambda: metric(url, "glassbox_items_total") == N_UNREAD)
        until(lambda: 7_000_000 < metric(url, "glassbox_request_bytes") < 16_000_000)  # the reply, not the body
        response = http.client.HTTPResponse(client)
        response.begin()
        response.read()
        until(lambda: metric(url, "glassbox_request_bytes") == 0)


@pytest.mark.slow
def test_a_slow_reader_gets_the_complete_response_while_others_are_served(url: str) -> None:
    with unread(url, 1) as [slow]:
        until(lambda: metric(url, "glassbox_items_total") == N_UNREAD)
        response, read = http.client.HTTPResponse(slow), b""
        response.begin()
        while piece := response.read(65_536):
            read += piece
            if len(read) < 1_000_000:
                assert score(url, item()).status_code == 200

        assert len(json.loads(read)["rewards"]) == N_UNREAD


def test_incomplete_bodies_do_not_delay_others(url: str) -> None:
    halves = [posted(url, "/score", b'{"items": [', declared=1_000) for _ in range(10)]
    until(lambda: metric(url, "glassbox_request_bytes") >= 10 * len(b'{"items": ['))

    assert score(url, item()).status_code == 200
    assert ready(url)
    for half in halves:
        half.close()
    until(lambda: metric(url, "glassbox_request_bytes") == 0)
    assert score(url, item()).status_code == 200


def test_a_disconnected_client_frees_its_place_and_memory_and_others_are_served() -> None:
    with busy() as service:
        disconnected = [posted(service.url, "/score", {"items": [item(f"left {n}")]}) for n in range(5)]
        stays = service.score("stays b")
        until(lambda: service.waiting_texts() == 6)
        for client in disconnected:
            client.close()
        until(lambda: service.waiting_texts() == 1)

        assert service.embedded("left 0") == 0
        assert stays.result().json()["rewards"] == [alone(service.url, "stays b")]
        assert metric(service.url, "glassbox_request_bytes") == 0
        assert ready(service.url)


# Full disks -----------------------------------------------------------------------------------------------------


GLASSBOX = "import sys; from reward_client.cli.main import main; sys.exit(main())"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_requests_are_answered_when_the_log_cannot_be_written() -> None:
    port = free_port()
    service = [sys.executable, "-m", "reward_service", "--port", str(port), "--log-level", "debug"]
    models = ["--encoder", "none", "--gold", "none", "--default-recipe", "li-rp"]
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return ready(url)
        except httpx.TransportError:
            return False

    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen([*service, *models], stderr=full, stdout=full) as process,
    ):
        try:
            until(lambda: answers() or process.poll() is not None, 60)

            assert score(url, item()).status_code == 200
            assert score(url).status_code == 422
            assert ready(url)
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.slow
def test_an_output_file_on_a_full_disk_can_be_continued_later(url: str, tmp_path: Path) -> None:
    source, target, whole = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "whole.jsonl"))
    source.write_text("".join(json.dumps(item("b " * n)) + "\n" for n in range(1, 41)))

    def glassbox(out: Path, max_bytes: int) -> subprocess.CompletedProcess[str]:
        """Run `glassbox score` with a limit on the size of files, which simulates a full disk."""
        command = [sys.executable, "-c", GLASSBOX, "score", str(source), str(out), "--url", url]
        limit = (max_bytes, resource.RLIM_INFINITY)
        # Without the coverage measurement of `make coverage`, whose data file would not fit on the disk either.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        return subprocess.run(
            [*command, "--batch", "4"],
            env=environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
            capture_output=True,
            text=True,
            check=False,
        )

    first = glassbox(whole, resource.RLIM_INFINITY)
    assert first.returncode == 0, first.stderr
    size = whole.stat().st_size
    for share in (0.02, 0.5):
        stopped = glassbox(target, int(size * share))

        assert stopped.returncode == 2
        assert "cannot be extended" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert target.read_bytes() == b"" or target.read_bytes().endswith(b"\n")
    assert glassbox(target, resource.RLIM_INFINITY).returncode == 0
    rewards = [[json.loads(line)["result"] for line in path.read_text().splitlines()] for path in (target, whole)]
    assert rewards[0] == rewards[1]
    assert len(rewards[0]) == 40
