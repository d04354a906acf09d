"""Attacks on the memory of requests: bodies that are declared, slow, half sent or many, and replies unread.

The witness asserts that another caller is served meanwhile, that the process stays within twice its budget over
idle, and that nothing is held afterwards.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.api.hostile.service import HostileTarget, started
from tests.api.hostile.witness import Witness, statuses
from tests.live import metric, until

pytestmark = pytest.mark.slow

MAX_BODY = 32 * 1024 * 1024


def open_request(witness: Witness, framing: str, path: str = "/score") -> socket.socket:
    """A connection of the attacker on which the head of a request was sent; open until the attack ends."""
    where = urlsplit(witness.target.url)
    headers = "".join(f"{name}: {value}\r\n" for name, value in witness.target.headers().items())
    connection = socket.create_connection((str(where.hostname), int(where.port or 80)), timeout=2)
    witness.hold(connection)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n{headers}{framing}\r\n"
    )
    connection.sendall(f"{head}\r\n".encode())
    return connection


def send(connection: socket.socket, *parts: bytes) -> None:
    """Send as much of `parts` as the service reads."""
    with suppress(OSError):
        for part in parts:
            connection.sendall(part)


def body(size: int, text: Callable[[int], str], **fields: Any) -> bytes:
    """A valid body of at most 4,096 items and about `size` bytes."""
    n_items = min(4096, max(1, size // 60_000))
    items = [{"prompt": "Why?", "response": text(size // n_items) + str(n)} for n in range(n_items)]
    return json.dumps({"items": items, **fields}, ensure_ascii=False).encode()


def held(target: HostileTarget) -> float:
    return metric(target.url, "glassbox_request_bytes", target.headers())


DECLARED = f"Content-Length: {MAX_BODY}"
CHUNKED = "Transfer-Encoding: chunked"
HALF = b'{"items": [{"prompt": "Why?", "response": "' + b"word " * (MAX_BODY // 10)


def silent(witness: Witness) -> None:
    for _ in range(40):
        open_request(witness, DECLARED)
    witness.wait(3)
    assert held(witness.target) < 10_000  # of the others' requests


def silent_openrlhf(witness: Witness) -> None:
    for _ in range(40):
        open_request(witness, DECLARED, "/get_reward")
    witness.wait(3)


def one_byte_a_second(witness: Witness) -> None:
    connections = [open_request(witness, DECLARED) for _ in range(40)]
    for second in range(3):
        for connection in connections:
            send(connection, b"{" if not second else b" ")
        witness.wait(1)


def half_then_silent(witness: Witness) -> None:
    with ThreadPoolExecutor(12) as pool:
        for _ in range(12):
            pool.submit(send, open_request(witness, DECLARED), HALF)
    witness.wait(3)


def half_of_chunks(witness: Witness) -> None:
    chunk = b"%x\r\n" % len(HALF) + HALF + b"\r\n"
    with ThreadPoolExecutor(12) as pool:
        for _ in range(12):
            pool.submit(send, open_request(witness, CHUNKED), chunk)
    witness.wait(3)


def declared_small_and_sent_more(witness: Witness) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(send, open_request(witness, "Content-Length: 10"), HALF[: MAX_BODY // 4])
    witness.wait(3)


def many_half_bodies(witness: Witness) -> None:
    for _ in range(300):
        send(open_request(witness, "Content-Length: 60000"), HALF[:30_000])
    witness.wait(3)


def disconnecting(witness: Witness) -> None:
    def attack() -> None:
        connection = open_request(witness, DECLARED)
        send(connection, HALF[:4_000_000])
        connection.close()

    witness.repeat(attack, workers=6)


@pytest.mark.parametrize(
    "attack",
    [
        silent,
        silent_openrlhf,
        one_byte_a_second,
        half_then_silent,
        half_of_chunks,
        declared_small_and_sent_more,
        many_half_bodies,
        disconnecting,
    ],
)
def test_incomplete_bodies_take_no_memory_from_others(
    target: HostileTarget, attack: Callable[[Witness], None]
) -> None:
    with Witness(target) as witness:
        attack(witness)


LARGE = {
    "ascii": lambda n: "word " * (n // 5),
    "4-byte characters": lambda n: "\U0001f600" * (n // 4),
    "ascii and one 4-byte character": lambda n: "\U0001f600" + "word " * (n // 5),
    "quotation marks": lambda n: '"' * (n // 2),
}


@pytest.mark.parametrize("kind", LARGE)
def test_large_bodies_stay_within_twice_the_budget(target: HostileTarget, kind: str) -> None:
    content = body(20_000_000, LARGE[kind])

    with Witness(target) as witness:
        witness.repeat(lambda: witness.post("/score", content), workers=8, seconds=4)

    assert statuses(witness.replies) <= {0, 200, 413, 429, 503, 504}


def test_memory_is_returned_to_the_system_when_no_request_is_in_flight(target: HostileTarget) -> None:
    def resident() -> int:
        return int(psutil.Process(target.process.pid).memory_info().rss)

    before, content = resident(), body(20_000_000, LARGE["ascii and one 4-byte character"])
    with Witness(target) as witness:
        witness.repeat(lambda: witness.post("/score", content), workers=8)

    until(lambda: resident() - before < 100_000_000, 30)


WRONG = {
    "white space": b" " * 20_000_000,
    "brackets": b'{"items": ' + b"[" * 20_000_000,
    "a text without end": b'{"items": [{"prompt": "' + b"word " * 4_000_000,
    "the last item": body(20_000_000, LARGE["ascii"])[:-2] + b", 1]}",
}


@pytest.mark.parametrize("framing", ["declared", "chunks"])
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_bodies_are_dropped_at_once(target: HostileTarget, kind: str, framing: str) -> None:
    content = WRONG[kind]

    with Witness(target) as witness:
        witness.repeat(
            lambda: witness.post("/score", content if framing == "declared" else iter([content])), workers=4
        )

    assert statuses(witness.replies) <= {0, 413, 422, 429, 503}
    assert statuses(witness.replies) & {413, 422}


def test_chunks_that_look_like_the_ends_of_heads_stop_nobody(target: HostileTarget) -> None:
    content = b"\r\n" * 10_000_000

    with Witness(target) as witness:
        witness.repeat(lambda: witness.post("/score", iter([content])), workers=4, seconds=4)


def tiny_items(n: int) -> bytes:
    items = [{"prompt": f"a{i}", "response": f"b{i}"} for i in range(n)]
    return json.dumps({"items": items, "recipe": "li-rp"}, separators=(",", ":")).encode()


def tiny_samples(n: int) -> bytes:
    samples = {"query": [f"a{i}b" for i in range(n)], "prompts": [f"a{i}" for i in range(n)]}
    return json.dumps(samples, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("path", "content"), [("/score", tiny_items(4096)), ("/get_reward?recipe=li-rp", tiny_samples(4096))]
)
def test_many_small_items_stay_within_twice_the_budget(target: HostileTarget, path: str, content: bytes) -> None:
    with Witness(target) as witness:
        witness.repeat(lambda: witness.post(path, content), workers=48, seconds=4)

    assert statuses(witness.replies) <= {0, 200, 429, 503, 504}


SOON = {"Glassbox-Deadline-S": "8"}
"""Ends requests that take long to prepare; memory is taken at their start."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, control_url: str) -> Iterator[HostileTarget]:
    """A service with a quarter of the memory, which an attack of a few seconds could exceed."""
    with started(tmp_path_factory.mktemp("small"), control_url, max_waiting_bytes=64 * 1024 * 1024) as running:
        yield running


def with_references(n_items: int) -> bytes:
    references = [f"a{i}" for i in range(64)]
    items = [{"prompt": f"Why {i}?", "response": "a1", "reference": references} for i in range(n_items)]
    fields = {"items": items, "recipe": "rer", "query_type_default": "closed_ended"}
    return json.dumps(fields, separators=(",", ":")).encode()


def test_items_with_many_references_stay_within_twice_the_budget(small: HostileTarget) -> None:
    content = with_references(512)

    with Witness(small) as witness:
        witness.repeat(lambda: witness.post("/score", content, SOON), workers=24, seconds=4)

    assert statuses(witness.replies) <= {0, 200, 429, 503, 504}


def test_items_that_find_many_references_stay_within_twice_the_budget(small: HostileTarget) -> None:
    row = json.dumps({"prompt": "Why?", "reference": [f"a{i}" for i in range(64)]})
    url, headers = f"{small.url}/datasets/references", small.headers()
    assert httpx.put(url, content=row, headers=headers, timeout=60).status_code == 200
    items = [{"prompt": "Why?", "response": f"a{i}"} for i in range(1_024)]
    content = json.dumps({"items": items, "recipe": "rer"}).encode()

    with Witness(small) as witness:
        witness.repeat(lambda: witness.post("/score?dataset=references", content, SOON), workers=24, seconds=4)

    assert statuses(witness.replies) <= {0, 200, 429, 503, 504}


def repeated_by_nemo_gym(values: str) -> bytes:
    policy = '"responses_create_params": {"input": "Why?"}, "response": {"output": []'
    return f'{{{policy}, "x": [{values}], "y": [{values}], "z": [{values}], "w": [{values}]}}}}'.encode()


SHORT_VALUES = {
    "empty lists": repeated_by_nemo_gym("[]," * 60_000 + "0"),
    "nested lists": repeated_by_nemo_gym(("[" * 100 + "]" * 100 + ",") * 600 + "0"),
    "empty objects": repeated_by_nemo_gym("{}," * 60_000 + "0"),
    "numbers": repeated_by_nemo_gym("1.5," * 60_000 + "0"),
    "short texts": repeated_by_nemo_gym(",".join(f'"{i}"' for i in range(60_000))),
}


@pytest.mark.parametrize("kind", SHORT_VALUES)
def test_many_short_values_stay_within_twice_the_budget(small: HostileTarget, kind: str) -> None:
    content = SHORT_VALUES[kind]

    with Witness(small) as witness:
        witness.repeat(lambda: witness.post("/nemo_gym/verify", content, SOON), workers=48, seconds=4)

    assert statuses(witness.replies) <= {0, 200, 429, 503, 504}


def statistics(n: int) -> bytes:
    responses = [{f"{number:06d}".ljust(1_000, "k"): 1.0} for number in range(n)]
    return json.dumps({"verify_responses": responses}).encode()


ENLARGED = {
    "a query for thousands of texts": (
        "/rerank",
        json.dumps({"query": "word " * 1_500, "texts": [f"t{i}" for i in range(4_096)]}).encode(),
    ),
    "statistics of long names": ("/nemo_gym/aggregate_metrics", statistics(1_300)),
}


@pytest.mark.parametrize("kind", ENLARGED)
def test_what_a_small_body_becomes_stays_within_twice_the_budget(target: HostileTarget, kind: str) -> None:
    path, content = ENLARGED[kind]

    with Witness(target) as witness:
        witness.repeat(lambda: witness.post(path, content, SOON), workers=48, seconds=4)

    assert statuses(witness.replies) <= {0, 200, 429, 503, 504}


@pytest.mark.parametrize("field", ["id", "reference"])
def test_unread_replies_are_charged_to_their_caller(target: HostileTarget, field: str) -> None:
    items = [
        {"prompt": "Why?", "response": "Because.", "query_type": "open_ended", field: f"{i}".rjust(250, "x")}
        for i in range(4096)
    ]
    content = json.dumps({"items": items, "recipe": "li-rp"}).encode()

    with Witness(target) as witness:
        connections = [open_request(witness, f"Content-Length: {len(content)}") for _ in range(60)]
        for connection in connections:
            send(connection, content)
        until(lambda: held(target) > len(content))
        witness.wait(3)
