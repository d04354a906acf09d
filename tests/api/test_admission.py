"""Admission: hold and refusal, deadlines, disconnects, idempotency, request context."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_client.client import KEEP_ALIVE_S
from reward_service.admission.hold import AdmissionHold, Drain
from reward_service.app import PROTOCOLS, create_app
from reward_service.errors import OverloadedError
from reward_service.process.connection_limits import MAX_HEAD_S
from reward_service.process.server import server_for
from reward_service.protocols import openrlhf, score
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics
from tests.doubles import LetterEncoder
from tests.live import Busy, busy_service, item, metric, posted, serving, until


@pytest.fixture
def busy() -> Iterator[Busy]:
    with busy_service() as busy:
        yield busy


@pytest.fixture
def full() -> Iterator[Busy]:
    """A service whose queue is full as well."""
    with busy_service(max_waiting_items=1) as busy:
        busy.fill()
        yield busy


def holding(url: str, n: int) -> Callable[[], bool]:
    """Whether the service holds `n` requests."""
    return lambda: metric(url, "glassbox_held_requests") == n


OPENRLHF = {"query": ["Why?zebra"], "prompts": ["Why?"], "labels": [None]}

# Hold and refusal ------------------------------------------------------------------------------------------------


def test_when_the_queue_is_full_openrlhf_is_held_and_native_requests_are_refused(full: Busy) -> None:
    held = full.post("/get_reward?recipe=rer", OPENRLHF)
    until(lambda: metric(full.url, 'glassbox_held_requests{protocol="openrlhf"}') == 1)
    told = full.score("x").result()

    assert told.status_code == 429
    assert int(told.headers["retry-after"]) >= 1
    assert not held.done()
    full.release()
    assert held.result().status_code == 200
    assert len(held.result().json()["rewards"]) == 1
    assert metric(full.url, 'glassbox_held_seconds_count{outcome="admitted",protocol="openrlhf"}') == 1
    assert metric(full.url, 'glassbox_refused_total{cause="overloaded",route="/score"}') >= 1
    assert metric(full.url, 'glassbox_capacity_refusals_total{caller="largest",cause="overloaded"}') >= 1


def test_a_refusal_is_counted_by_route_and_has_the_request_id(full: Busy) -> None:
    refused = 'glassbox_requests_total{route="/score",status="429"}'
    until(lambda: metric(full.url, refused) == len(full.waiting) - 1)  # one of them waits, the others were told
    told = full.score("x", x_request_id="mine").result()

    assert told.headers["x-request-id"] == told.json()["request_id"] == "mine"
    assert told.headers["content-type"] == "application/problem+json"
    until(lambda: metric(full.url, refused) == len(full.waiting))


@pytest.mark.parametrize("recipe", ["recipe", r"recip\u0065"])
def test_a_recipe_without_models_is_scored_when_the_queue_is_full(full: Busy, recipe: str) -> None:
    body = f'{{"items": [{json.dumps(item())}], "{recipe}": "li"}}'

    assert httpx.post(f"{full.url}/score", content=body).status_code == 200


def test_large_bodies_are_refused_when_the_queue_is_full(full: Busy) -> None:
    assert full.post("/score", {"items": [item("word " * 400)] * 100}).result().status_code == 429


@pytest.mark.parametrize("at_first", [0, 20])
def test_a_slow_body_is_refused_when_the_queue_is_full(full: Busy, at_first: int) -> None:
    body = json.dumps({"items": [item()]}).encode()
    with posted(full.url, "/score", body[:at_first], declared=len(body)) as connection:
        assert full.score("x").result().status_code == 429  # by then the head of the other is there
        connection.sendall(body[at_first:])

        assert connection.recv(100).startswith(b"HTTP/1.1 429")


def test_a_compressed_body_is_refused_before_100_continue(full: Busy) -> None:
    headers = {"Expect": "100-continue", "Content-Encoding": "gzip"}
    with posted(full.url, "/score", b"", headers, declared=50) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 422")


@pytest.mark.parametrize("name", [b"x-request-id", b"traceparent"])
def test_the_first_of_repeated_headers_counts(full: Busy, name: bytes) -> None:
    """Refused early or not, a request means the same."""
    twice = [(name, PARENT.encode()), (name, PARENT.replace("0af7", "ffff").encode())]

    refused = httpx.post(f"{full.url}/score", json={"items": [item()]}, headers=twice)
    scored = httpx.post(f"{full.url}/score", json={"items": [item()], "recipe": "li"}, headers=twice)

    assert (refused.status_code, scored.status_code) == (429, 200)
    assert refused.headers[name.decode()] == scored.headers[name.decode()] == PARENT


@pytest.mark.parametrize("keys", [["k"], ["k", "never seen"]])
def test_a_known_idempotency_key_is_answered_when_the_queue_is_full(keys: list[str]) -> None:
    with busy_service(max_waiting_items=1) as full:
        first = full.score("zebra", idempotency_key="k")
        until(full.waiting_texts)
        assert full.score("x", idempotency_key="other").result().status_code == 429
        headers = [("Idempotency-Key", key) for key in keys]
        again = full.pool.submit(
            httpx.post, f"{full.url}/score", json={"items": [item("zebra")]}, headers=headers, timeout=30
        )
        until(lambda: metric(full.url, 'glassbox_idempotent_total{outcome="shared"}') == 1)
        full.release()

        assert first.result().status_code == again.result().status_code == 200
        assert first.result().content == again.result().content


def test_a_held_request_is_refused_after_max_hold_s() -> None:
    with busy_service(max_waiting_items=1, max_hold_s=0.2) as full:
        full.fill()
        refused = full.post("/get_reward", OPENRLHF).result()

        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "rewards" not in refused.json()
        assert metric(full.url, 'glassbox_held_seconds_count{outcome="refused",protocol="openrlhf"}') == 1
        assert metric(full.url, "glassbox_held_requests") == 0


def test_when_body_memory_is_full_openrlhf_is_held_and_native_requests_are_refused() -> None:
    with busy_service(max_waiting_bytes=12_000) as busy:
        large = busy.score("word " * 180)
        until(lambda: metric(busy.url, "glassbox_request_bytes") > 900)
        told = busy.score("word " * 180).result()
        held = busy.post("/get_reward", OPENRLHF | {"query": ["Why?" + "word " * 180]})
        until(lambda: metric(busy.url, "glassbox_held_requests") == 1)

        assert told.status_code == 503
        assert int(told.headers["retry-after"]) >= 1
        busy.release()
        assert large.result().status_code == held.result().status_code == 200
        until(lambda: metric(busy.url, "glassbox_request_bytes") == 0)


def test_every_protocol_is_answered_before_its_client_hangs_up() -> None:
    hangs_up = {"openrlhf": 180, "slime": 120, "xtuner": 30}  # the other clients wait longer, or for ever

    assert score.PROTOCOL.hold_s == 0
    for spec in PROTOCOLS:
        if spec.hold_s:
            assert spec.hold_s < spec.answer_s
        if spec.name in hangs_up:
            assert spec.answer_s < hangs_up[spec.name]


def test_held_requests_are_admitted_in_order_of_arrival(full: Busy) -> None:
    words = ["walnut", "almond", "peanut", "cashew"]
    held = []
    for n, word in enumerate(words, start=1):
        held.append(full.post("/get_reward", {"query": f"Why?{word}", "prompts": "Why?"}))
        until(holding(full.url, n))

    full.release()

    assert {answer.result().status_code for answer in held} == {200}
    seen = [text for call in full.encoder.calls for text in call]
    assert sorted(words, key=seen.index) == words


def test_a_native_request_is_refused_while_others_of_its_caller_are_held() -> None:
    async def scenario() -> list[str]:
        metrics = Metrics()
        holder = AdmissionHold(60, Drain(metrics), metrics)
        room, in_line, tries = asyncio.Event(), asyncio.Event(), iter(range(100))
        admitted: list[str] = []

        def attempt(name: str) -> None:
            if name == "held" and not room.is_set():
                if next(tries):  # the second one is made at the head of the queue
                    in_line.set()
                raise OverloadedError("full", 1.0)
            admitted.append(name)

        async def openrlhf_request() -> None:
            assert not holder.admit_now(openrlhf.PROTOCOL, "A", "gold", lambda: attempt("held"))
            await holder.wait(openrlhf.PROTOCOL, "A", "gold", lambda: attempt("held"))

        held = asyncio.create_task(openrlhf_request())
        await in_line.wait()
        with pytest.raises(OverloadedError):
            holder.admit_now(score.PROTOCOL, "A", "gold", lambda: attempt("native"))
        holder.admit_now(score.PROTOCOL, "A", "white-box", lambda: attempt("elsewhere"))
        holder.admit_now(score.PROTOCOL, "B", "gold", lambda: attempt("another caller's"))
        room.set()
        await held
        holder.admit_now(score.PROTOCOL, "A", "gold", lambda: attempt("native"))
        return admitted

    assert asyncio.run(scenario()) == ["elsewhere", "another caller's", "held", "native"]


def test_the_service_keeps_idle_connections_open_longer_than_its_clients_do() -> None:
    settings = Settings()
    idle_s = server_for(create_app(settings), settings).config.timeout_keep_alive

    assert KEEP_ALIVE_S < 15 < idle_s < MAX_HEAD_S  # ours, aiohttp's, the service's, and what it cuts off


# Deadlines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), [("/score", {"items": [item("zebra")]}), ("/get_reward", OPENRLHF)])
def test_late_work_is_answered_504_and_never_computed(busy: Busy, path: str, body: dict[str, Any]) -> None:
    late = busy.post(path, body, glassbox_deadline_s="0.3").result()

    assert late.status_code == 504
    assert late.headers["content-type"] == "application/problem+json"
    assert "0.3 s" in late.json()["detail"]
    assert busy.embedded("zebra") == 0
    assert metric(busy.url, 'glassbox_refused_total{cause="deadline"') == 1


def test_the_operators_limit_holds_without_a_header_and_over_a_longer_one() -> None:
    with busy_service(request_timeout_s=0.3) as busy:
        answers = [busy.score("zebra"), busy.score("zebra", glassbox_deadline_s="60")]

        assert [answer.result().status_code for answer in answers] == [504, 504]


@pytest.mark.parametrize("deadline", ["0", "-1", "nan", "inf", "1e3", "soon", "", "0.0", "9" * 400, "٣"])
def test_an_invalid_deadline_is_refused_by_name(service: TestClient, deadline: str) -> None:
    refused = service.post("/score", json={"items": [item()]}, headers={"glassbox-deadline-s": deadline.encode()})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "Glassbox-Deadline-S"


@pytest.mark.parametrize(("path", "body"), [("/score", {"items": [item("zebra")]}), ("/get_reward", OPENRLHF)])
def test_work_of_a_disconnected_client_is_dropped(busy: Busy, path: str, body: dict[str, Any]) -> None:
    gone, stays = posted(busy.url, path, body), busy.score("stays")
    until(lambda: metric(busy.url, "glassbox_request_bytes") > 100)
    gone.close()
    until(lambda: metric(busy.url, 'glassbox_refused_total{cause="client_gone"') == 1)

    assert busy.embedded("zebra") == 0
    assert stays.result().status_code == 200


def test_an_incomplete_body_of_a_disconnected_client_is_dropped() -> None:
    with serving(Settings()) as url:
        half = posted(url, "/score", b'{"items": [', declared=100)
        until(lambda: metric(url, "glassbox_request_bytes") > 0)
        half.close()
        until(lambda: metric(url, 'glassbox_refused_total{cause="client_gone"') == 1)

        assert metric(url, "glassbox_request_bytes") == 0
        assert httpx.post(f"{url}/score", json={"items": [item()]}).status_code == 200


def test_a_slow_body_is_refused_after_body_timeout_s() -> None:
    with serving(Settings(body_timeout_s=0.2)) as url:
        trickling = posted(url, "/score", b'{"items": [', declared=100)

        assert b" 408 " in trickling.recv(1000).splitlines()[0]
        assert metric(url, "glassbox_request_bytes") == 0


# Idempotency ---------------------------------------------------------------------------------------------------


def test_the_same_key_and_request_get_the_same_bytes_computed_once(
    service: TestClient, encoder: LetterEncoder
) -> None:
    first, second = (
        service.post("/score", json={"items": [item("zebra")]}, headers={"idempotency-key": "k1"})
        for _ in range(2)
    )

    assert first.status_code == 200
    assert first.content == second.content
    assert sum(call.count("zebra") for call in encoder.calls) == 1
    assert 'glassbox_idempotent_total{outcome="replayed"} 1.0' in service.get("/metrics").text


def test_concurrent_requests_with_one_key_share_a_computation(busy: Busy) -> None:
    first, second = (busy.score("zebra", idempotency_key="k") for _ in range(2))
    until(lambda: metric(busy.url, 'glassbox_idempotent_total{outcome="shared"}') == 1)
    busy.release()

    assert first.result().content == second.result().content
    assert busy.embedded("zebra") == 1


def test_a_shared_computation_continues_when_its_first_client_disconnects(busy: Busy) -> None:
    body = json.dumps({"items": [item("zebra")]}).encode()
    first = posted(busy.url, "/score", body, {"Idempotency-Key": "k"})
    until(lambda: metric(busy.url, 'glassbox_idempotent_total{outcome="computed"}') == 1)
    second = busy.pool.submit(
        httpx.post, f"{busy.url}/score", content=body, headers={"idempotency-key": "k"}, timeout=30
    )
    until(lambda: metric(busy.url, 'glassbox_idempotent_total{outcome="shared"}') == 1)
    first.close()
    until(lambda: metric(busy.url, 'glassbox_refused_total{cause="client_gone"') == 1)
    busy.release()

    assert second.result().status_code == 200
    assert busy.embedded("zebra") == 1


def test_work_without_clients_is_dropped_and_its_key_can_be_used_again(busy: Busy) -> None:
    late = busy.score("zebra", idempotency_key="k", glassbox_deadline_s="0.3").result()
    assert late.status_code == 504
    busy.release()

    again = busy.score("zebra", idempotency_key="k").result()

    assert again.status_code == 200
    assert busy.embedded("zebra") == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/score", {"items": [item("other")]}),
        ("/get_reward", {"query": "Why?a", "prompts": "Why?"}),
    ],
)
def test_a_key_for_another_request_is_refused(service: TestClient, path: str, body: dict[str, Any]) -> None:
    headers = {"idempotency-key": "k1"}
    assert service.post("/score", json={"items": [item()]}, headers=headers).status_code == 200

    refused = service.post(path, json=body, headers=headers)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "Idempotency-Key"


def test_the_wire_version_is_part_of_the_request(service: TestClient) -> None:
    def post(version: str) -> httpx.Response:
        headers = {"idempotency-key": "k1", "glassbox-wire-version": version}
        reply: httpx.Response = service.post("/score", json={"items": [item()]}, headers=headers)
        return reply

    assert post("2").status_code == 200
    assert post("1").json()["errors"][0]["field"] == "Idempotency-Key"
    assert post("2").status_code == 200


def test_a_key_of_another_callers_request_is_unknown(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key-0123456789\nsecond-key-0123456789\n")
    with serving(Settings(api_keys_file=keys)) as url:
        answers = [
            httpx.post(
                f"{url}/score",
                json={"items": [item(text)], "recipe": "li"},
                headers={"idempotency-key": "k", "x-api-key": f"{caller}-key-0123456789"},
            )
            for caller, text in (("first", "a b"), ("second", "b c d e"), ("first", "a b"))
        ]

    first, second, again = (answer.json()["rewards"] for answer in answers)
    assert first == again != second


def test_the_query_string_is_part_of_the_request(service: TestClient) -> None:
    answers = [
        service.post(f"/get_reward?recipe={recipe}", json=OPENRLHF, headers={"idempotency-key": "k1"})
        for recipe in ("li", "rer", "li")
    ]

    assert [answer.status_code for answer in answers] == [200, 422, 200]


def test_a_failure_is_not_kept(service: TestClient, encoder: LetterEncoder) -> None:
    for _ in range(2):
        encoder.calls.clear()
        failed = service.post("/score", json={"items": [item("BOOM")]}, headers={"idempotency-key": "k"})

        assert failed.status_code == 500
        assert any("BOOM" in call for call in encoder.calls)


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "\u00e9"])
def test_an_invalid_key_is_refused_by_name(service: TestClient, key: str) -> None:
    refused = service.post("/score", json={"items": [item()]}, headers={"idempotency-key": key.encode("latin-1")})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.parametrize("bound", [{"idempotency_entries": 2}, {"idempotency_bytes": 1_400}])
def test_kept_replies_are_bounded_and_the_oldest_go_first(bound: dict[str, int]) -> None:
    encoder = LetterEncoder()
    with serving(Settings.model_validate({"cache_bytes": 0, **bound}), encoder) as url:
        for key in ("a", "b", "c", "c", "a"):
            body = {"items": [item(f"text {key}")]}
            assert httpx.post(f"{url}/score", json=body, headers={"idempotency-key": key}).status_code == 200
    embedded = [text for call in encoder.calls for text in call]

    assert (embedded.count("text a"), embedded.count("text c")) == (2, 1)


# Request context ---------------------------------------------------------------------------------

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("path", ["/score", "/nowhere", "/healthz", "/", "/docs"])
def test_every_answer_carries_the_requests_id_and_the_security_headers(service: TestClient, path: str) -> None:
    answer = service.get(path, headers={"x-request-id": "run-7:step-3", "traceparent": PARENT})

    assert answer.headers["x-request-id"] == "run-7:step-3"
    assert answer.headers["traceparent"] == PARENT
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_a_problem_document_names_the_request(service: TestClient) -> None:
    refused = service.post("/score", json={}, headers={"x-request-id": "abc"})

    assert refused.json()["request_id"] == "abc"


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "a\tb", 'a"b', "\u00e9", "level=ERROR msg"])
def test_an_id_that_could_forge_a_log_line_is_replaced(service: TestClient, bad: str) -> None:
    headers = {"x-request-id": bad.encode("latin-1"), "traceparent": b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01"}
    ids = {service.get("/healthz", headers=headers).headers["x-request-id"] for _ in range(2)}

    assert len(ids) == 2
    assert bad not in ids
    assert "traceparent" not in service.get("/healthz", headers=headers).headers


def test_one_log_line_a_request_with_its_id_and_no_text_of_the_caller(
    service: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="reward_service.access")
    service.post("/r/secret-run/get_reward?recipe=li", json=OPENRLHF, headers={"x-request-id": "abc"})

    [line] = [record.getMessage() for record in caplog.records if record.name == "reward_service.access"]
    assert "route=/r/{run}/get_reward status=200" in line
    assert "secret-run" not in line
    assert "zebra" not in line
