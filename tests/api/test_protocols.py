"""A specification is enough for a protocol: those defined here are served like those of the package."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, RootModel

from reward_client.wire import Item, ScoreReply
from reward_service.app import PROTOCOLS, create_app
from reward_service.batching import Steps
from reward_service.models.protocols import RawText
from reward_service.protocols.base import (
    Call,
    EndpointSpec,
    GoldSpec,
    HandlerSpec,
    NoBody,
    ProtocolSpec,
    RouteSpec,
    parallel,
)
from reward_service.protocols.url_options import url_options
from reward_service.scoring.gold_only import GoldJob, GoldReply
from reward_service.scoring.job import Job, check_count, scorable_item
from reward_service.settings import Settings
from tests.doubles import LengthGold, LetterEncoder
from tests.live import busy_service, until


class EchoRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    questions: list[str]
    answers: list[str]


class EchoReply(BaseModel):
    values: list[float | None]
    run: str | None


def echo_job(body: EchoRequest, call: Call) -> Job:
    assert call.options is not None
    check_count(len(body.questions), call.settings.max_items)
    answers = parallel("answers", body.answers, len(body.questions), "questions")
    items = [Item(prompt=q, response=a) for q, a in zip(body.questions, answers, strict=True)]
    return Job([scorable_item(item, None) for item in items], call.options.recipe, run=call.path["run"])


def echo_reply(reply: ScoreReply, job: Job, _: Call) -> EchoReply:
    return EchoReply(values=reply.rewards, run=job.run)


def echo(hold_s: float = 0) -> ProtocolSpec[EchoRequest]:
    return ProtocolSpec(
        name="echo",
        routes=[RouteSpec("/echo/{run}", "Score answers")],
        request_model=EchoRequest,
        reply_model=EchoReply,
        job=echo_job,
        reply=echo_reply,
        options=url_options,
        hold_s=hold_s,
    )


class TextsRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    texts: list[str]


def gold_job(body: TextsRequest, _: Call) -> GoldJob:
    def reply(scored: GoldReply) -> RootModel[list[float]]:
        return RootModel[list[float]](scored.scores)

    return GoldJob((RawText(text) for text in body.texts), lambda index, _: f"texts.{index}", reply)


class Where(BaseModel):
    on_event_loop: bool


def where_made(_: ScoreReply, job: Job, __: Call) -> Where:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Where(on_event_loop=False)
    return Where(on_event_loop=True)


def counted_in_steps(body: EchoRequest, _: Call) -> Steps[Opened]:
    total = 0
    for answer in body.answers:
        total += len(answer)
        yield
    return Opened(session=str(total))


class Opened(BaseModel):
    session: str


OTHERS: list[EndpointSpec[Any]] = [
    GoldSpec(
        name="echo",
        routes=[RouteSpec("/echo-gold", "Score texts")],
        request_model=TextsRequest,
        reply_model=RootModel[list[float]],
        job=gold_job,
    ),
    HandlerSpec(
        name="echo",
        routes=[RouteSpec("/echo/{run}/open", "Open a session")],
        request_model=EchoRequest,
        reply_model=Opened,
        handle=lambda body, call: Opened(session=f"{call.path['run']} {len(body.answers)}"),
    ),
    HandlerSpec(
        name="echo",
        routes=[RouteSpec("/echo/{run}/count", "Count the letters")],
        request_model=EchoRequest,
        reply_model=Opened,
        handle=counted_in_steps,
    ),
    ProtocolSpec(
        name="echo",
        routes=[RouteSpec("/echo/{run}/where", "Where the reply is made")],
        request_model=EchoRequest,
        reply_model=Where,
        job=echo_job,
        reply=where_made,
        options=url_options,
    ),
    HandlerSpec(
        name="echo",
        routes=[RouteSpec("/echo/{run}/open", "Count the answers", method="GET")],
        request_model=NoBody,
        reply_model=RootModel[int],
        handle=lambda _, call: RootModel[int](int(dict(call.query).get("n", "0"))),
    ),
]
"""A bare JSON value, gold scores without a recipe, and routes that score nothing."""

BODY = {"questions": ["Why?", "How?"], "answers": ["because", "by hand"]}


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = create_app(
        Settings(),
        encoder_loader=lambda _: LetterEncoder(),
        gold_loader=lambda _: LengthGold(),
        protocols=[*PROTOCOLS, echo(), *OTHERS],
    )
    with TestClient(app, "http://localhost") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


def test_a_handler_may_make_its_reply_in_steps(client: TestClient) -> None:
    assert client.post("/echo/r1/count", json=BODY).json() == {"session": "14"}


def test_the_reply_to_a_large_request_is_not_made_on_the_event_loop(client: TestClient) -> None:
    large = {"questions": ["Why? " * 20_000], "answers": ["because"]}

    assert client.post("/echo/r1/where", json=BODY).json()["on_event_loop"]
    assert not client.post("/echo/r1/where", json=large).json()["on_event_loop"]


def test_it_scores_as_the_native_protocol_does(client: TestClient) -> None:
    reply = client.post("/echo/run-7?recipe=li", json=BODY).json()
    items = [{"prompt": q, "response": a} for q, a in zip(BODY["questions"], BODY["answers"], strict=True)]
    native = client.post("/score", json={"items": items, "recipe": "li"}).json()

    assert reply == {"values": native["rewards"], "run": "run-7"}


def test_its_errors_name_its_fields(client: TestClient) -> None:
    unknown = client.post("/echo/r", json=BODY | {"extra": 1}).json()
    unequal = client.post("/echo/r", json=BODY | {"answers": ["one"]}).json()

    assert [error["field"] for error in unknown["errors"]] == ["extra"]
    assert [error["field"] for error in unequal["errors"]] == ["answers"]


def test_it_is_in_the_api_description_and_in_the_metrics(client: TestClient) -> None:
    client.post("/echo/run-7", json=BODY)
    operation = client.get("/openapi.json").json()["paths"]["/echo/{run}"]["post"]
    metrics = client.get("/metrics").text

    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/EchoRequest")
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/EchoReply")
    assert {parameter["name"] for parameter in operation["parameters"]} >= {"run", "Idempotency-Key"}
    assert 'glassbox_requests_total{route="/echo/{run}",status="200"} 1.0' in metrics
    assert 'glassbox_items_total{outcome="scored",protocol="echo",recipe="glassbox"} 2.0' in metrics


@pytest.mark.parametrize(("hold_s", "statuses"), [(0, {429}), (60, {200})])
def test_a_full_service_refuses_or_holds_it_as_its_specification_says(hold_s: float, statuses: set[int]) -> None:
    with busy_service(max_waiting_items=1, protocols=[*PROTOCOLS, echo(hold_s)]) as full:
        full.fill()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(httpx.post, f"{full.url}/echo/r", json=BODY, timeout=30)
            if hold_s:
                until(
                    lambda: 'glassbox_held_requests{protocol="echo"} 1.0' in httpx.get(f"{full.url}/metrics").text
                )
                full.release()

            assert {answer.result().status_code} == statuses


# Other kinds of routes ---------------------------------------------------------------------------------------


def test_gold_scores_of_texts_are_a_bare_list(client: TestClient) -> None:
    assert client.post("/echo-gold", json={"texts": ["abc", "a" * 20]}).json() == [0.3, 2.0]
    assert client.post("/echo-gold", json={"texts": []}).json() == []


@pytest.mark.parametrize(("text", "status"), [("NAN", 500), ("UNREAD", 422)])
def test_a_text_without_a_gold_score_is_an_error_and_no_number(client: TestClient, text: str, status: int) -> None:
    reply = client.post("/echo-gold", json={"texts": ["abc", text]})

    assert reply.status_code == status
    assert [error["field"] for error in reply.json()["errors"]] == ["texts.1"]


def test_a_service_without_a_gold_model_says_how_to_load_one() -> None:
    app = create_app(Settings(encoder="none", gold="none", default_recipe="li"), protocols=OTHERS)
    with TestClient(app, "http://localhost") as client:
        reply = client.post("/echo-gold", json={"texts": ["abc"]})

    assert reply.status_code == 422
    assert "start it with --gold" in reply.json()["detail"]


def test_a_handler_replies_without_scoring(client: TestClient) -> None:
    assert client.post("/echo/run-7/open", json=BODY).json() == {"session": "run-7 2"}
    assert client.get("/echo/run-7/open?n=3").json() == 3


def test_the_errors_of_a_handler_are_those_of_every_route(client: TestClient) -> None:
    unknown = client.post("/echo/r/open", json=BODY | {"extra": 1})

    assert (unknown.status_code, unknown.headers["content-type"]) == (422, "application/problem+json")
    assert [error["field"] for error in unknown.json()["errors"]] == ["extra"]
    assert client.put("/echo/r/open").status_code == 405


def test_all_kinds_of_routes_are_in_the_api_description_and_in_the_metrics(client: TestClient) -> None:
    client.post("/echo-gold", json={"texts": ["abc", "d"]})
    client.get("/echo/run-7/open")
    paths = client.get("/openapi.json").json()["paths"]
    metrics = client.get("/metrics").text

    assert set(paths["/echo/{run}/open"]) == {"get", "post"}
    assert "requestBody" not in paths["/echo/{run}/open"]["get"]
    assert "503" in paths["/echo-gold"]["post"]["responses"]
    assert 'glassbox_items_total{outcome="scored",protocol="echo",recipe="gold"} 2.0' in metrics
    assert 'glassbox_requests_total{route="/echo/{run}/open",status="200"} 1.0' in metrics
