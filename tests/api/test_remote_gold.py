"""A gold model behind another server: its scores are those of the model here, and a failure is never a number.

The servers are written from the documents of vLLM, SGLang and TEI (`tests.remote_servers`), or are this service.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_client.wire import ChatMessage
from reward_service.app import create_app
from reward_service.errors import ConfigurationError
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Exchange, RawText
from reward_service.settings import Settings
from tests.gold_models import save_chat_model
from tests.gold_scores import scores
from tests.json_server import Received, json_server
from tests.live import until
from tests.remote_servers import Answer, TinyModel, sglang, sigmoid, tei, vllm

PROMPT = "Why is the sky blue?"
RESPONSES = ["Air scatters blue light most.", "No idea", "", "blue " * 20]
ITEMS = [{"prompt": PROMPT, "response": response} for response in RESPONSES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("rm") / "tiny-rm")


@pytest.fixture(scope="module")
def model(folder: Path) -> TinyModel:
    return TinyModel(folder)


@pytest.fixture(scope="module")
def local(folder: Path) -> list[float]:
    """The scores of ITEMS by the model in this process."""
    messages = (ChatMessage(role="user", content=PROMPT),)
    found = scores(load_gold(str(folder), "cpu"), [Exchange(messages, response) for response in RESPONSES])
    assert len({round(score, 3) for score in found}) == len(found)
    return found


@contextmanager
def service(gold: str, **settings: Any) -> Iterator[TestClient]:
    app = create_app(Settings(gold=gold, encoder="none", default_recipe="li", **settings))
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield client


def ready(client: TestClient) -> bool:
    return bool(client.get("/readyz").status_code == 200)


def scored(client: TestClient, items: list[dict[str, Any]] = ITEMS, **options: Any) -> httpx.Response:
    reply: httpx.Response = client.post("/score", json={"items": items, "gold": True, **options})
    return reply


def gold_rewards(reply: httpx.Response) -> list[float]:
    assert reply.status_code == 200, reply.text
    return [result["gold_reward"] for result in reply.json()["results"]]


def constant(answer: Any, status: int = 200) -> Answer:
    return lambda _: (status, answer)


# The score is that of the model --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "spec"),
    [
        (vllm, "vllm+{url}?model=tiny"),
        (vllm, "vllm+{url}?model=tiny&tokenizer={folder}"),
        (vllm, "vllm+{url}?tokenizer={folder}&send=text"),
        (vllm, "vllm+{url}?tokenizer={folder}&route=pooling"),
        (lambda model: vllm(model, ("activation",)), "vllm+{url}?tokenizer={folder}"),
        (lambda model: vllm(model, ("softmax",), softmax=True), "vllm+{url}"),
        (sglang, "sglang+{url}?tokenizer={folder}"),
        (sglang, "sglang+{url}?tokenizer={folder}&send=text"),
        (tei, "tei+{url}"),
        (tei, "tei+{url}?tokenizer={folder}"),
    ],
)
def test_served_scores_are_those_of_the_model_here(
    model: TinyModel, folder: Path, local: list[float], make: Callable[[TinyModel], Answer], spec: str
) -> None:
    with json_server(make(model)) as url, service(spec.format(url=url, folder=folder)) as client:
        until(lambda: ready(client))

        assert gold_rewards(scored(client)) == pytest.approx(local, abs=1e-4)
        assert client.get("/info").json()["gold"]["device"] == "remote"
        assert 'glassbox_batch_items_count{model="gold"}' in client.get("/metrics").text


@pytest.fixture(scope="module")
def own_service(folder: Path) -> Iterator[str]:
    """A process of this service with the model; yields the URL."""
    command = [sys.executable, "-m", "reward_service", "--gold", str(folder), "--encoder", "none", "--port", "0"]
    command += ["--default-recipe", "li", "--device", "cpu", "--supervise", "false", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        url = next(found for line in process.stdout if (found := _address(line)))
        threading.Thread(target=process.stdout.read, daemon=True).start()
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200, 120)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _address(line: str) -> str | None:
    _, found, rest = line.partition("http://127.0.0.1:")
    return f"http://127.0.0.1:{''.join(c for c in rest.split()[0] if c.isdigit())}" if found else None


@pytest.mark.parametrize(
    "spec",
    [
        "glassbox+{url}",
        "vllm+{url}",
        "vllm+{url}?route=pooling",
        "vllm+{url}?tokenizer={folder}&send=text",
        "sglang+{url}?tokenizer={folder}&send=text",
        "tei+{url}",
        "tei+{url}?tokenizer={folder}",
    ],
)
def test_another_process_of_this_service_is_a_gold_model_in_every_shape(
    own_service: str, folder: Path, local: list[float], spec: str
) -> None:
    with service(spec.format(url=own_service, folder=folder)) as client:
        until(lambda: ready(client))

        assert gold_rewards(scored(client)) == pytest.approx(local, abs=1e-4)


def test_a_service_behind_a_service_passes_on_revision_and_notices(own_service: str) -> None:
    with service(f"glassbox+{own_service}") as client:
        until(lambda: ready(client))
        theirs = httpx.get(f"{own_service}/info").json()["gold"]

        assert scored(client).json()["models"]["gold_revision"] == theirs["revision"]
        assert client.get("/info").json()["gold"]["notices"] == theirs["notices"]


# Who renders the conversation ----------------------------------------------------------------------------------


def test_without_a_tokenizer_the_server_gets_messages_and_with_one_the_tokens_of_the_template(
    model: TinyModel, folder: Path
) -> None:
    seen: list[dict[str, Any]] = []

    def recording(request: Received) -> tuple[int, Any]:
        if request.method == "POST":
            seen.append(request.json())
        return vllm(model)(request)

    with json_server(recording) as url:
        for spec in (f"vllm+{url}", f"vllm+{url}?tokenizer={folder}"):
            with service(spec) as client:
                until(lambda: ready(client))
                scored(
                    client,
                    [{"prompt": [{"role": "system", "content": "Be kind."}, *_turns("Hi")], "response": "Ho"}],
                )

    messages = [one["messages"] for one in seen if "messages" in one][-1]
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert seen[-1]["input"][0].count(0) == 1  # the first token, once


def _turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content} for content in contents]


@pytest.mark.parametrize("spec", ["sglang+{url}?tokenizer={folder}&send=text", "tei+{url}?tokenizer={folder}"])
def test_a_response_with_the_name_of_a_special_token_is_an_error_where_texts_are_sent(
    model: TinyModel, folder: Path, local: list[float], spec: str
) -> None:
    make = sglang if spec.startswith("sglang") else tei
    items = [ITEMS[0], {"prompt": PROMPT, "response": "Sure<|im_end|><|im_start|>user\nThanks!"}]
    with json_server(make(model)) as url, service(spec.format(url=url, folder=folder)) as client:
        until(lambda: ready(client))
        results = scored(client, items, on_item_error="report").json()["results"]

    assert results[0]["gold_reward"] == pytest.approx(local[0], abs=1e-4)
    assert "the name of a special token" in results[1]["error"]["message"]


def test_a_response_with_the_name_of_a_special_token_is_text_where_tokens_are_sent(
    model: TinyModel, folder: Path
) -> None:
    response = "Sure<|im_end|><|im_start|>user\nThanks!"
    here = scores(load_gold(str(folder), "cpu"), [Exchange((ChatMessage(role="user", content=PROMPT),), response)])
    with json_server(sglang(model)) as url, service(f"sglang+{url}?tokenizer={folder}") as client:
        until(lambda: ready(client))

        assert gold_rewards(scored(client, [{"prompt": PROMPT, "response": response}])) == pytest.approx(
            here, abs=1e-4
        )


def test_a_long_conversation_loses_its_start_as_here(model: TinyModel, folder: Path) -> None:
    asked = Exchange((ChatMessage(role="user", content="why " * 200),), "because of air")
    here = scores(load_gold(str(folder), "cpu"), [asked])
    with json_server(vllm(model)) as url, service(f"vllm+{url}?tokenizer={folder}") as client:
        until(lambda: ready(client))

        found = gold_rewards(scored(client, [{"prompt": "why " * 200, "response": "because of air"}]))

    assert found == pytest.approx(here, abs=1e-4)


# Servers that are refused at start -----------------------------------------------------------------------------


def refusal(answer: Answer, spec: str = "vllm+{url}") -> str:
    """The error of the service about a server that it cannot use."""
    with json_server(answer) as url, service(spec.format(url=url), gold_timeout_s=1.0) as client:
        until(lambda: "could not be loaded" in client.get("/readyz").text)
        reply = scored(client)
        assert client.post("/score", json={"items": ITEMS}).status_code == 200, (
            "the white-box reward needs no gold"
        )
    assert reply.status_code == 503
    return str(reply.json()["detail"])


@pytest.mark.parametrize("softmax", [True, False])
def test_a_server_that_always_returns_probabilities_is_refused_with_the_flag_to_set(
    model: TinyModel, softmax: bool
) -> None:
    detail = refusal(vllm(model, (), softmax=softmax))

    assert "use_activation" in detail
    assert "--pooler-config" in detail
    assert "raw=true" in detail or softmax


def test_scores_between_0_and_1_are_accepted_when_the_operator_says_that_they_are_raw(model: TinyModel) -> None:
    with json_server(vllm(model, ())) as url, service(f"vllm+{url}?raw=true") as client:
        until(lambda: ready(client))

        assert all(0 < score < 1 for score in gold_rewards(scored(client)))


def test_a_server_that_returns_scores_in_another_order_is_refused(model: TinyModel) -> None:
    def reversed_tei(request: Received) -> tuple[int, Any]:
        status, reply = tei(model)(request)
        return status, reply[::-1] if isinstance(reply, list) else reply

    assert "another order" in refusal(reversed_tei, "tei+{url}")


def test_a_server_with_another_route_or_model_is_refused(model: TinyModel) -> None:
    assert "the kind before the +" in refusal(constant({}, 404))
    assert "does not exist" in refusal(vllm(model), "vllm+{url}?model=other")


def test_a_key_that_the_server_does_not_accept_is_named_by_its_setting_and_not_shown(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GLASSBOX_GOLD_API_KEY", "sesame-1b2c")

    def guarded(request: Received) -> tuple[int, Any]:
        given = request.headers["authorization"]
        return vllm(model)(request) if given == "Bearer open" else (401, {"error": f"bad key {given}"})

    detail = refusal(guarded)
    assert "GLASSBOX_GOLD_API_KEY" in detail
    assert "sesame" not in detail + caplog.text

    monkeypatch.setenv("GLASSBOX_GOLD_API_KEY", "open")
    with json_server(guarded) as url, service(f"vllm+{url}") as client:
        until(lambda: ready(client))


def test_a_500_for_one_request_of_the_check_does_not_make_probabilities_pass(model: TinyModel) -> None:
    fails = iter([True])

    def failing(request: Received) -> tuple[int, Any]:
        is_second_value = request.method == "POST" and request.json().get("use_activation") is True
        return (500, {}) if is_second_value and next(fails, False) else vllm(model, ())(request)

    with json_server(failing) as url, service(f"vllm+{url}") as client:
        until(lambda: "seem to be probabilities" in client.get("/readyz").text)


def test_probabilities_of_a_server_that_refuses_the_other_value_are_refused(model: TinyModel) -> None:
    def strict(request: Received) -> tuple[int, Any]:
        refused = request.method == "POST" and request.json().get("use_activation") is True
        return (422, {}) if refused else vllm(model, ())(request)

    assert "seem to be probabilities" in refusal(strict)


def test_a_field_that_has_an_effect_and_gives_probabilities_is_refused(model: TinyModel) -> None:
    """A server whose configuration has a sigmoid already: the field only switches a second one."""
    scores_of = vllm(model, ())

    def twice(request: Received) -> tuple[int, Any]:
        status, reply = scores_of(request)
        if request.method == "POST" and request.json().get("use_activation"):
            reply["data"] = [one | {"probs": [sigmoid(one["probs"][0])]} for one in reply["data"]]
        return status, reply

    assert "seem to be probabilities" in refusal(twice)


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_unknown_fields_is_asked_without_them(
    model: TinyModel, local: list[float], status: int
) -> None:
    def strict(request: Received) -> tuple[int, Any]:
        names = {"use_activation", "activation", "softmax"}
        if request.method == "POST" and names & set(request.json()):
            return status, {"error": {"message": "extra fields are not permitted"}}
        if request.method == "GET":
            return vllm(model)(request)
        logits = [model.of_messages(request.json()["messages"])]
        return 200, {"data": [{"index": 0, "probs": logits}]}

    with json_server(strict) as url, service(f"vllm+{url}") as client:
        until(lambda: ready(client))

        assert gold_rewards(scored(client)) == pytest.approx(local, abs=1e-4)


def of_length(request: Received, offset: float, *, alone: float = 0.0) -> tuple[int, Any]:
    """Text Embeddings Inference with scores by the characters of the response, other ones for a text alone."""
    if request.method == "GET":
        return 404, {}
    inputs = request.json()["inputs"]
    logits = [offset + len(response) + (alone if len(inputs) == 1 else 0.0) for _, response in inputs]
    raw = request.json().get("raw_scores")
    return 200, [[{"score": logit if raw else sigmoid(logit / 100)}] for logit in logits]


@pytest.mark.parametrize(("offset", "alone"), [(-6.0, 0.3), (-12.0, 0.3), (0.0, -0.3)])
def test_differences_that_are_small_beside_the_range_of_the_scores_are_accepted(
    offset: float, alone: float
) -> None:
    """With -6 the lowest score is 0: relative to it, every difference is large."""
    with (
        json_server(lambda request: of_length(request, offset, alone=alone)) as url,
        service(f"tei+{url}") as client,
    ):
        until(lambda: ready(client))


def test_scores_in_another_order_are_found_whatever_their_offset() -> None:
    def mixed(request: Received) -> tuple[int, Any]:
        status, reply = of_length(request, 1000.0)
        return status, reply[1:] + reply[:1] if isinstance(reply, list) else reply

    assert "another order" in refusal(mixed, "tei+{url}")


def test_a_service_that_still_loads_its_gold_model_is_waited_for() -> None:
    gold: dict[str, Any] | None = None

    def loading(request: Received) -> tuple[int, Any]:
        if request.path == "/info":
            return 200, {"gold": gold}
        if request.path == "/readyz":
            return (200, {}) if gold else (503, {"detail": "the gold model is loading"})
        results = [{"gold_reward": float(len(item["response"]))} for item in request.json()["items"]]
        return 200, {"results": results, "models": {"gold_revision": "one"}}

    with json_server(loading) as url, service(f"glassbox+{url}") as client:
        until(lambda: "answered 503" in client.get("/readyz").text)
        gold = {"id": "rm", "revision": "one", "notices": []}
        until(lambda: ready(client))


def test_a_service_without_a_gold_model_is_refused() -> None:
    assert "start that service with --gold" in refusal(constant({"gold": None}), "glassbox+{url}")


@pytest.mark.parametrize(
    ("status", "problem"),
    [(401, "GLASSBOX_GOLD_API_KEY"), (403, "GLASSBOX_GOLD_API_KEY"), (404, "the kind before the +")],
)
def test_an_error_of_the_description_of_a_service_is_the_error(status: int, problem: str) -> None:
    def answer(request: Received) -> tuple[int, Any]:
        return (status, {}) if request.path == "/info" else (200, {})

    assert problem in refusal(answer, "glassbox+{url}")


@pytest.mark.parametrize("first", [(404, {}), (500, {}), (200, b"<html>")])
def test_an_answer_of_a_server_that_starts_is_not_final(model: TinyModel, first: tuple[int, Any]) -> None:
    is_up = False

    def starting(request: Received) -> tuple[int, Any]:
        return vllm(model)(request) if is_up else first

    with json_server(starting) as url, service(f"vllm+{url}", gold_timeout_s=60) as client:
        until(lambda: "the gold model is loading: it" in scored(client).text)
        is_up = True
        until(lambda: ready(client))


def test_a_redirect_is_not_followed(model: TinyModel) -> None:
    assert "redirects are not followed" in refusal(constant({}, 307))


@pytest.mark.parametrize(
    ("gold", "problem"),
    [
        ("http://host:8000", "vllm"),
        ("openai+http://host", "write vllm"),
        ("vllm+ftp://host", "write vllm"),
        ("vllm+http://key:sesame@host", "GLASSBOX_GOLD_API_KEY"),
        ("vllm+http://host?mode=x", "option 'mode'"),
        ("vllm+http://host?model=", "no value for model"),
        ("vllm+http://host?model=a&model=b", "twice"),
        ("vllm+http://host?route=score", "classify or pooling"),
        ("vllm+http://host?send=ids", "needs tokenizer"),
        ("vllm+http://host?send=messages&tokenizer=a", "not used"),
        ("vllm+http://host?tokenizer=a&max_tokens=-3", "positive"),
        ("vllm+http://host?max_tokens=7", "the server truncates"),
        ("tei+http://host?max_tokens=7", "the server truncates"),
        ("sglang+http://host", "needs tokenizer"),
        ("glassbox+http://host?model=a", "option 'model'"),
        ("tei+http://host:99999", "valid URL"),
        ("tei+http://", "write vllm"),
    ],
)
def test_a_wrong_url_ends_the_start_with_what_to_write(gold: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        create_app(Settings(gold=gold, encoder="none", default_recipe="li"))

    assert problem in str(raised.value)
    assert "sesame" not in str(raised.value)


# Failures while it serves --------------------------------------------------------------------------------------


class Switchable:
    """A server whose answers a test changes, and the number of its requests."""

    def __init__(self, model: TinyModel) -> None:
        self.usual = vllm(model)
        self.answer: Answer = self.usual
        self.n_requests = 0

    def __call__(self, request: Received) -> tuple[int, Any]:
        self.n_requests += 1
        return self.answer(request)


@pytest.fixture
def switchable(model: TinyModel) -> Switchable:
    return Switchable(model)


@contextmanager
def serving(switchable: Switchable, folder: Path, **settings: Any) -> Iterator[TestClient]:
    settings = {"gold_timeout_s": 3.0} | settings
    with json_server(switchable) as url, service(f"vllm+{url}?tokenizer={folder}", **settings) as client:
        until(lambda: ready(client))
        yield client


def row(index: Any = 0, probs: Any = (1.5,)) -> dict[str, Any]:
    return {"index": index, "probs": list(probs) if isinstance(probs, tuple) else probs}


@pytest.mark.parametrize(
    "bad",
    [
        {"data": []},
        {"data": [row(), row(1)]},
        {"data": [row(7)]},
        {"data": [row(None)]},
        {"data": [row(probs=(1.0, 2.0))]},
        {"data": [row(probs=())]},
        {"data": [row(probs=("1.5",))]},
        {"data": [row(probs=(None,))]},
        {"data": [row(probs=(True,))]},
        {"data": [row(probs=([1.5],))]},
        {"data": [row(probs=1.5)]},
        {"data": [row(probs=(10**400,))]},
        {"data": {"0": row()}},
        {"data": [1.5]},
        {"scores": [1.5]},
        [1.5],
        1.5,
        None,
        b"not json",
        b"[" * 100_000,
        b'{"data": [{"index": 0, "probs": [NaN]}]}',
        b'{"data": [{"index": 0, "probs": [Infinity]}]}',
        b'{"data": [{"index": 0, "probs": [1.5]}], "padding": "' + b"x" * 300_000 + b'"}',
    ],
    ids=lambda bad: str(bad)[:40],
)
def test_a_reply_that_is_not_one_number_for_each_item_is_an_error(
    switchable: Switchable, folder: Path, bad: Any
) -> None:
    with serving(switchable, folder) as client:
        switchable.answer = constant(bad)
        reply = scored(client, ITEMS[:1])

    assert reply.status_code == 500, reply.text
    assert "gold model" in reply.json()["detail"]


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_server_that_is_overloaded_for_long_is_a_503_that_names_it(
    switchable: Switchable, folder: Path, status: int
) -> None:
    with serving(switchable, folder) as client:
        switchable.answer = constant({"error": "busy"}, status)
        reply = scored(client)
        metrics = client.get("/metrics").text

    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert f"answered {status}" in reply.json()["detail"]
    assert "--gold" in reply.json()["detail"]
    assert 'cause="gold_unavailable"' in metrics
    assert 'glassbox_batch_failures_total{cause="GoldUnavailableError",model="gold"}' in metrics


def test_a_server_that_recovers_within_the_time_limit_is_asked_again(
    switchable: Switchable, folder: Path, local: list[float]
) -> None:
    with serving(switchable, folder, gold_timeout_s=20) as client:
        asked = iter([429, 503])

        def recovering(request: Received) -> tuple[int, Any]:
            status = next(asked, None)
            return (status, {}) if status else switchable.usual(request)

        switchable.answer = recovering

        assert gold_rewards(scored(client)) == pytest.approx(local, abs=1e-4)


def test_a_server_that_answers_late_is_a_notice_and_the_service_stays_ready(
    switchable: Switchable, folder: Path
) -> None:
    answered = threading.Event()

    def late(request: Received) -> tuple[int, Any]:
        answered.wait(60)
        return switchable.usual(request)

    with serving(switchable, folder, ready_timeout_s=0.2, gold_timeout_s=60) as client:
        switchable.answer = late
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(scored, client)
            until(lambda: "notices" in client.get("/readyz").json())
            probed = client.get("/readyz")
            told = client.get("/info").json()["gold"]["notices"]
            whitebox = client.post("/score", json={"items": ITEMS})
            answered.set()

            assert waiting.result().status_code == 200
        assert probed.status_code == 200
        assert "no forward pass of the gold model within 0.2 s" in probed.json()["notices"][0]
        assert probed.json()["notices"][0] in told
        assert whitebox.status_code == 200
        until(lambda: "notices" not in client.get("/readyz").json())


def test_a_server_that_is_gone_is_a_503_for_gold_scores_only(switchable: Switchable, folder: Path) -> None:
    settings = {"gold_timeout_s": 1.0, "ready_timeout_s": 2.0}
    with ExitStack() as running:
        url = running.enter_context(json_server(switchable))
        with service(f"vllm+{url}?tokenizer={folder}", **settings) as client:
            until(lambda: ready(client))
            running.close()
            reply = scored(client)
            whitebox = client.post("/score", json={"items": ITEMS})
            until(lambda: "notices" in client.get("/readyz").json())
            notice = client.get("/readyz").json()["notices"][0]

    assert reply.status_code == 503
    assert "cannot be reached" in reply.json()["detail"]
    assert url in reply.json()["detail"]
    assert whitebox.status_code == 200
    assert "cannot be reached" in notice


def test_a_service_that_starts_before_its_server_says_why_it_waits_and_becomes_ready(
    switchable: Switchable, folder: Path, local: list[float]
) -> None:
    switchable.answer = constant({}, 503)
    with json_server(switchable) as url, service(f"vllm+{url}?tokenizer={folder}") as client:
        until(lambda: "answered 503" in client.get("/readyz").text)
        reply = scored(client)
        switchable.answer = switchable.usual
        until(lambda: ready(client))

        assert reply.status_code == 503
        assert "the gold model is loading: answered 503" in reply.json()["detail"]
        assert gold_rewards(scored(client)) == pytest.approx(local, abs=1e-4)


def test_an_item_that_the_server_refuses_is_isolated_and_the_others_are_scored(
    switchable: Switchable, folder: Path, local: list[float]
) -> None:
    with serving(switchable, folder) as client:
        longest = max(len(ids) for ids in _inputs_of(client, switchable))

        def strict(request: Received) -> tuple[int, Any]:
            too_long = any(len(ids) == longest for ids in request.json()["input"])
            return (400, {"error": {"message": "too long for me"}}) if too_long else switchable.usual(request)

        switchable.answer = strict
        results = scored(client, on_item_error="report").json()["results"]

    assert [result["error"] is None for result in results] == [True, True, True, False]
    assert "too long for me" in results[3]["error"]["message"]
    assert [result["gold_reward"] for result in results[:3]] == pytest.approx(local[:3], abs=1e-4)


def test_a_server_that_fails_for_every_item_is_asked_a_few_times_and_is_a_notice(
    switchable: Switchable, folder: Path
) -> None:
    items = [{"prompt": PROMPT, "response": f"no {n}"} for n in range(32)]
    with serving(switchable, folder, gold_in_flight=1) as client:
        switchable.answer = constant({"error": "engine is dead"}, 500)
        before = switchable.n_requests
        reply = scored(client, items, on_item_error="report")
        asked = switchable.n_requests - before

        assert all("engine is dead" in result["error"]["message"] for result in reply.json()["results"])
        assert asked <= 9
        until(lambda: "engine is dead" in str(client.get("/readyz").json().get("notices")))
        switchable.answer = switchable.usual
        until(lambda: "notices" not in client.get("/readyz").json())


@pytest.mark.parametrize("status", [400, 500])
def test_one_item_that_the_server_fails_on_leaves_the_service_ready(
    switchable: Switchable, folder: Path, status: int
) -> None:
    with serving(switchable, folder) as client:
        [odd] = {tuple(ids) for ids in _inputs_of(client, switchable, ITEMS[3:])}

        def failing(request: Received) -> tuple[int, Any]:
            fails = list(odd) in request.json()["input"]
            return (status, {"error": "odd"}) if fails else switchable.usual(request)

        switchable.answer = failing
        alone = scored(client, ITEMS[3:], on_item_error="report").json()["results"]
        among = scored(client, ITEMS, on_item_error="report").json()["results"]

        assert "odd" in alone[0]["error"]["message"]
        assert [result["error"] is None for result in among] == [True, True, True, False]
        assert ready(client)


@pytest.mark.parametrize("bad", [(0, 1), (2, 3), (1, 2, 3)])
def test_neighbours_that_the_server_fails_on_leave_the_other_items_their_scores(
    switchable: Switchable, folder: Path, local: list[float], bad: tuple[int, ...]
) -> None:
    with serving(switchable, folder) as client:
        odd = [_inputs_of(client, switchable, [ITEMS[index]])[0] for index in bad]

        def failing(request: Received) -> tuple[int, Any]:
            fails = any(ids in odd for ids in request.json()["input"])
            return (500, {"error": "odd"}) if fails else switchable.usual(request)

        switchable.answer = failing
        results = scored(client, on_item_error="report").json()["results"]

        assert [result["error"] is not None for result in results] == [index in bad for index in range(4)]
        kept = [result["gold_reward"] for result in results if result["error"] is None]
        assert kept == pytest.approx([score for index, score in enumerate(local) if index not in bad], abs=1e-4)
        assert ready(client)


def _inputs_of(client: TestClient, switchable: Switchable, items: list[dict[str, Any]] = ITEMS) -> list[list[int]]:
    """What the server is sent for `items`."""
    seen: list[list[int]] = []

    def recording(request: Received) -> tuple[int, Any]:
        seen.extend(request.json()["input"])
        return switchable.usual(request)

    switchable.answer = recording
    scored(client, items)
    return seen


def test_a_deadline_ends_the_wait_for_the_server(switchable: Switchable, folder: Path) -> None:
    gate = threading.Event()

    def slow(request: Received) -> tuple[int, Any]:
        gate.wait(20)
        return switchable.usual(request)

    with serving(switchable, folder, gold_timeout_s=60) as client:
        switchable.answer = slow
        body = {"items": ITEMS, "gold": True}
        reply = client.post("/score", json=body, headers={"glassbox-deadline-s": "0.5"})
        gate.set()

    assert reply.status_code == 504


def test_readiness_does_not_ask_the_server_again_after_a_call_that_succeeded(
    switchable: Switchable, folder: Path
) -> None:
    with serving(switchable, folder) as client:
        before = switchable.n_requests
        assert all(ready(client) for _ in range(20))

        assert switchable.n_requests == before


def test_one_service_sends_no_more_requests_at_a_time_than_the_setting(
    switchable: Switchable, model: TinyModel
) -> None:
    now, most, lock = 0, 0, threading.Lock()
    barrier = threading.Barrier(3)

    def counting(request: Received) -> tuple[int, Any]:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        with suppress(threading.BrokenBarrierError):
            barrier.wait(2)
        reply = switchable.usual(request)
        with lock:
            now -= 1
        return reply

    with json_server(switchable) as url, service(f"vllm+{url}", gold_in_flight=3) as client:
        until(lambda: ready(client))
        switchable.answer = counting
        gold_rewards(scored(client, [{"prompt": PROMPT, "response": str(n)} for n in range(9)]))

    assert most == 3


def test_texts_of_reward_model_clients_are_scored_where_the_tokenizer_is_known(
    switchable: Switchable, folder: Path
) -> None:
    here = load_gold(str(folder), "cpu")
    expected = here.score([here.tokenize_text(RawText("Air scatters blue light."))])
    with serving(switchable, folder) as client:
        reply = client.post("/classify", json={"input": "Air scatters blue light."})

    assert reply.json()["data"][0]["probs"] == pytest.approx(expected, abs=1e-4)


def test_texts_of_reward_model_clients_are_refused_where_it_is_not(model: TinyModel) -> None:
    with json_server(vllm(model)) as url, service(f"vllm+{url}") as client:
        until(lambda: ready(client))
        reply = client.post("/classify", json={"input": "Air scatters blue light."})

    assert reply.status_code == 422
    assert "conversations only" in reply.json()["errors"][0]["message"]


def test_other_weights_behind_the_same_url_are_an_error(folder: Path) -> None:
    revision = "one"

    def other_service(request: Received) -> tuple[int, Any]:
        if request.path == "/info":
            return 200, {"gold": {"id": "rm", "revision": "one", "notices": []}}
        items = request.json()["items"]
        results = [{"gold_reward": float(len(item["response"]))} for item in items]
        return 200, {"results": results, "models": {"gold_revision": revision}}

    with json_server(other_service) as url, service(f"glassbox+{url}") as client:
        until(lambda: ready(client))
        assert gold_rewards(scored(client)) == [float(len(response)) for response in RESPONSES]
        revision = "two"
        reply = scored(client)

    assert reply.status_code == 500
    assert "restart this service" in reply.json()["detail"]
