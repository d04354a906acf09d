"""OpenRLHF's unmodified reward client with the service on a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from reward_service.settings import Settings
from tests.live import busy_service, serving
from tests.unit.client_server import Served
from tests.unit.client_server import serving as restarted

pytestmark = pytest.mark.slow

agent = pytest.importorskip("openrlhf.utils.agent", reason="OpenRLHF is not installed (extra: train)")

PROMPT = "<|im_start|>user\nHow many legs has a spider?<|im_end|>\n<|im_start|>assistant\n"


class CharTokenizer:
    """The part of a tokenizer that the executor uses: one token per character."""

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        import torch

        return {"input_ids": torch.tensor([[ord(char) for char in text]])}

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(chr, ids))


class OneAnswerEngine:
    """An engine that always returns the same response."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    async def generate(self, *_: Any, **__: Any) -> Any:
        output = SimpleNamespace(token_ids=[ord(c) for c in self._answer], finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[output])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """URL of a service on a socket."""
    with serving(Settings()) as url:
        yield url


def execute(
    endpoints: list[str], answer: str = "Eight legs.<|im_end|>", label: str | None = None
) -> dict[str, Any]:
    """One rollout through OpenRLHF's executor; its output contains the reward for training."""
    executor = agent.SingleTurnAgentExecutor(endpoints)
    sampling = SimpleNamespace(max_tokens=64, logprobs=None)
    rollout = executor.execute(PROMPT, label, sampling, 1024, CharTokenizer(), OneAnswerEngine(answer))
    output: dict[str, Any] = asyncio.run(rollout)
    return output


def test_the_rollout_contains_the_reward_of_the_service(url: str) -> None:
    output = execute([f"{url}/r/run-1/get_reward?recipe=li&gold=true&max_response_tokens=100"])

    assert output["reward"] == [0.03]
    assert output["scores"] == [0.03]
    assert output["extra_logs"]["gold_reward"] == [1.1]
    assert output["extra_logs"]["truncated"] == [0.0]


def test_the_reward_uses_the_reference_in_the_label(url: str) -> None:
    label = json.dumps({"query_type": "closed_ended", "reference": "Eight legs."})

    output = execute([f"{url}/get_reward?recipe=rer&max_response_tokens=128"], label=label)

    assert output["reward"] == [pytest.approx(1.28)]


def test_requests_alternate_between_several_urls(url: str) -> None:
    endpoints = [f"{url}/get_reward?recipe=li"] * 3

    assert execute(endpoints)["reward"] == [0.03]


def test_extra_logs_can_be_converted_to_tensors(url: str) -> None:
    import torch

    output = execute([f"{url}/get_reward?gold=true"], answer="")

    assert torch.tensor(output["reward"]).dtype == torch.float32
    assert all(torch.isfinite(torch.tensor(value)).all() for value in output["extra_logs"].values())


def test_a_rejected_sample_has_no_reward(url: str) -> None:
    """OpenRLHF converts an error to None, which stops it later; the trainer reports the cause."""
    output = execute([f"{url}/get_reward?recipe=no-such-recipe"])

    assert output["reward"] is None


@pytest.mark.parametrize(
    ("answer", "label"),
    [("NAN<|im_end|>", None), ("Eight.<|im_end|>", json.dumps({"query_type": "closed_ended"}))],
    ids=["NaN of a model", "no reference"],
)
def test_a_sample_without_a_score_has_no_reward(url: str, answer: str, label: str | None) -> None:
    output = execute([f"{url}/get_reward?recipe=rer"], answer, label)

    assert (output["reward"], output["scores"]) == (None, None)


def test_a_service_that_stays_away_gives_no_reward() -> None:
    """Nothing listens at port 9."""
    output = execute(["http://127.0.0.1:9/get_reward"])

    assert (output["reward"], output["scores"]) == (None, None)


def test_a_service_that_is_back_within_five_tries_loses_no_sample(url: str) -> None:
    """This client tries five times in five seconds; a service that is away for longer ends the run."""
    tries = []

    def down_twice(_: Served, handler: BaseHTTPRequestHandler, number: int) -> None:
        tries.append(number)
        if number <= 2:
            handler.connection.shutdown(socket.SHUT_RDWR)  # as a service that is killed
            return
        body = handler.rfile.read(int(handler.headers["content-length"]))
        reply = httpx.post(f"{url}{handler.path}", content=body, headers={"content-type": "application/json"})
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ")
        handler.wfile.write(b"%d\r\n\r\n%s" % (len(reply.content), reply.content))

    with restarted(down_twice, reads_body=False) as service:
        assert execute([f"{service.url}/get_reward?recipe=li"])["reward"] == [0.03]

    assert tries == [1, 2, 3]


def test_a_key_in_the_url_authorises_the_request(url: str) -> None:
    """This client has no other option for a key; aiohttp sends it as the password of HTTP Basic."""
    with serving(Settings(api_key="sesame-9f27c1d4")) as guarded:
        keyed = guarded.replace("http://", "http://key:sesame-9f27c1d4@")
        wrong = guarded.replace("http://", "http://key:barley@")

        assert execute([f"{keyed}/get_reward?recipe=li"])["reward"] == [0.03]
        assert execute([f"{wrong}/get_reward?recipe=li"])["reward"] is None


def test_a_queue_that_stays_full_longer_than_this_client_retries_loses_no_sample() -> None:
    """It fails after five attempts in five seconds, so the service holds its requests until there is capacity."""
    with busy_service(max_waiting_items=1) as full:
        full.fill()
        opener = threading.Timer(6.0, full.release)  # what is tested is time: longer than the five seconds
        opener.start()
        started = time.monotonic()

        output = execute([f"{full.url}/get_reward?recipe=rer"])

        assert time.monotonic() - started > 5.0
        assert output["reward"] is not None
        assert output["reward"][0] > 0
