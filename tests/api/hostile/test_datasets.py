"""Attacks with data sets: long lines, many rows, wrong rows, slow and half sent uploads, many at once, a kill."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.hostile.service import HostileTarget, started
from tests.api.hostile.witness import MAX_ERROR_BYTES, Witness
from tests.live import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, control_url: str) -> Iterator[HostileTarget]:
    """A service that keeps data sets in a folder, of 64 MiB."""
    folder = tmp_path_factory.mktemp("kept")
    with started(
        folder, control_url, datasets_dir=folder / "datasets", datasets_bytes=64 * 1024 * 1024
    ) as running:
        yield running


def rows(n: int, text: str = "", **fields: object) -> bytes:
    return b"".join(json.dumps({"prompt": f"Why {i}? {text}", **fields}).encode() + b"\n" for i in range(n))


def put(target: HostileTarget, content: bytes | Iterator[bytes], name: str = "attack") -> int:
    """The status of an upload as the attacker."""
    url = f"{target.url}/datasets/{name}"
    reply = httpx.put(url, content=content, headers=target.headers(), timeout=120)
    assert reply.status_code < 400 or len(reply.content) <= MAX_ERROR_BYTES
    return reply.status_code


def opened(target: HostileTarget, content: bytes) -> socket.socket:
    """A connection on which the start of an upload was sent."""
    where = urlsplit(target.url)
    headers = "".join(f"{name}: {value}\r\n" for name, value in target.headers().items())
    connection = socket.create_connection((str(where.hostname), int(where.port or 80)), timeout=30)
    head = f"PUT /datasets/half HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: 1000000\r\n{headers}\r\n"
    connection.sendall(head.encode() + content)
    return connection


ATTACKS: dict[str, tuple[Callable[[], bytes | Iterator[bytes]], set[int]]] = {
    "long lines": (lambda: iter([b'{"prompt": "' + b"a" * 60_000] + [b"a" * 60_000] * 500), {413, 0}),
    "long texts": (lambda: rows(200, "a" * 190_000), {200}),
    "combining marks": (lambda: rows(1, "a" + "\u0301" * 99_000 + "\u0323" * 99_000), {200}),
    "escapes": (lambda: b'{"prompt": "' + b"\\u0041" * 150_000 + b'"}\n', {200}),
    "many rows": (lambda: rows(60_000, reference="because"), {200}),
    "many columns": (lambda: json.dumps({f"c{n}": n for n in range(50_000)}).encode() + b"\n", {413, 422}),
    "wrong rows": (lambda: b"[]\n" * 300_000, {422}),
    "blank lines": (lambda: b"\n" * 3_000_000, {422}),
    "duplicates": (lambda: b"".join(rows(1, reference=n) for n in range(20_000)), {422}),
    "more than is kept": (lambda: rows(20_000, reference="x" * 5_000), {413}),
    "deep nesting": (lambda: b'{"prompt": ' + b"[" * 100_000, {422}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_others_are_served_during_an_upload(kept: HostileTarget, attack: str) -> None:
    content, statuses = ATTACKS[attack]
    seen = set()
    with Witness(kept) as witness:
        witness.repeat(lambda: seen.add(put(kept, content())), workers=3)

    assert seen <= statuses


def test_half_sent_uploads_hold_little_and_are_forgotten(kept: HostileTarget, tmp_path: Path) -> None:
    folder = kept.settings.datasets_dir
    assert folder is not None
    with Witness(kept) as witness:
        for _ in range(40):
            witness.hold(opened(kept, rows(100)))
        witness.wait(3)

    until(lambda: not list(folder.rglob("*.upload")))


def test_a_disk_that_does_not_answer_fails_requests_with_data_sets_only(kept: HostileTarget) -> None:
    assert put(kept, rows(1, reference="x"), "train") == 200
    [file] = Path(str(kept.settings.datasets_dir)).rglob("train.sqlite")
    pipe = file.with_name("hanging.sqlite")
    os.mkfifo(pipe)  # to open it waits for a writer
    body = {"items": [{"prompt": "Why?", "response": "a"}]}
    with Witness(kept) as witness:
        witness.repeat(lambda: witness.post("/score?dataset=hanging", body), workers=4)
        with pipe.open("wb"):
            pipe.unlink()

    assert {reply.status for reply in witness.replies} == {503}
    assert "did not answer" in witness.replies[-1].json()["detail"]


def test_a_kill_during_an_upload_leaves_the_previous_data_set(tmp_path: Path, control_url: str) -> None:
    folder = tmp_path / "datasets"
    with started(tmp_path, control_url, datasets_dir=folder) as target:
        assert put(target, rows(1_000, reference="x"), "train") == 200
        before = httpx.get(f"{target.url}/datasets/train", headers=target.headers()).json()
        half = opened(target, rows(5_000))
        until(lambda: list(folder.rglob("*.upload")))
        target.process.send_signal(signal.SIGKILL)
        target.process.wait()
        half.close()
    with started(tmp_path, control_url, datasets_dir=folder) as target:
        assert httpx.get(f"{target.url}/datasets", headers=target.headers()).json()["datasets"] == [before]
        reply = httpx.post(
            f"{target.url}/score?dataset=train",
            json={"items": [{"prompt": "Why 7? ", "response": "a"}]},
            headers=target.headers(),
        )
        assert "dataset_hit" in reply.json()["results"][0]["flags"]
