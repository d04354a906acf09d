"""NeMo-Gym: the resources server over HTTP, called by Gym's own client, with Gym's aggregation of the replies.

Gym 0.4 answers a failure with HTTP 500; later releases, which can mask a sample, mask it. 0.7.0, by hand:

    python3.13 -m venv GYM && GYM/bin/pip install nemo-gym==0.7.0 pytest "httpx<1" pydantic
    PYTHONPATH=client GLASSBOX_SERVICE_PYTHON=.venv/bin/python \\
        GYM/bin/python -m pytest --confcutdir=tests/frameworks tests/frameworks/test_nemo_gym.py

It needs Python 3.13.14; `pip install --ignore-requires-python` installs it with an earlier 3.13.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
import uvicorn
from nemo_gym.base_resources_server import BaseVerifyResponse
from nemo_gym.config_types import BaseServerConfig
from nemo_gym.server_utils import (
    GlobalAIOHTTPAsyncClientConfig,
    ServerClient,
    global_aiohttp_client_exit,
    set_global_aiohttp_client,
)
from omegaconf import OmegaConf

from reward_client.adapters.nemo_gym import GlassboxConfig, GlassboxResourcesServer
from tests.frameworks.process import ServiceProcess

CAN_MASK = "mask_sample" in BaseVerifyResponse.model_fields
gym_07 = pytest.mark.skipif(not CAN_MASK, reason="this release of Gym cannot mask a sample")
NAME = "glassbox"
OPEN = {"prompt": "Why is the sky blue?", "response": "Because air molecules scatter short wavelengths."}
CLOSED = {"prompt": "What is two plus two?", "response": "Four", "reference": "Four", "query_type": "closed_ended"}


def body(item: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """What Gym posts for a row and the policy's response to it."""
    content = [{"type": "output_text", "text": item["response"], "annotations": []}]
    message = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    response = {"id": "r1", "object": "response", "created_at": 0, "model": "m", "output": [message]}
    labels = {"expected_answer": item.get("reference"), "query_type": item.get("query_type")}
    return {
        "responses_create_params": {"input": [{"role": "user", "content": item["prompt"]}]},
        "response": response | {"parallel_tool_calls": False, "tool_choice": "auto", "tools": []},
        **{name: value for name, value in labels.items() if value is not None},
        **columns,
    }


def answers(port: int, *requests: tuple[str, dict[str, Any]]) -> list[tuple[int, Any]]:
    """Status and reply of each (route, content), in order, through Gym's client."""
    try:
        return asyncio.run(_answers(port, requests))
    finally:
        global_aiohttp_client_exit()


async def _answers(port: int, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[int, Any]]:
    server = {"resources_servers": {NAME: {"host": "127.0.0.1", "port": port, "entrypoint": "app.py"}}}
    head = BaseServerConfig(host="127.0.0.1", port=1)
    client = ServerClient(head_server_config=head, global_config_dict=OmegaConf.create({NAME: server}))
    found: list[tuple[int, Any]] = []
    async with set_global_aiohttp_client(GlobalAIOHTTPAsyncClientConfig()):
        for route, content in requests:
            answer = await client.post(NAME, route, json=content)
            found.append((answer.status, await answer.json() if answer.status == 200 else await answer.text()))
    return found


@contextmanager
def resources_server(**settings: Any) -> Iterator[int]:
    """The port of a resources server with these settings of the adapter."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = GlassboxConfig(host="127.0.0.1", port=port, entrypoint="app.py", name=NAME, glassbox=settings)
    glassbox = GlassboxResourcesServer(config=config, server_client=MagicMock(spec=ServerClient))
    app = glassbox.setup_webserver()
    glassbox.setup_exception_middleware(app)  # as Gym's `run_webserver` does
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    give_up = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive(), "the resources server did not start"
        assert time.monotonic() < give_up
        time.sleep(0.05)
    yield port
    server.should_exit = True
    thread.join()


def verified(items: Sequence[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
    """The replies for samples that have a reward, of a resources server with these settings."""
    with resources_server(**settings) as port:
        found = answers(port, *(("/verify", body(item)) for item in items))
    assert [status for status, _ in found] == [200] * len(items), found
    return [reply for _, reply in found]


def failure(item: dict[str, Any], **settings: Any) -> tuple[int, Any]:
    """Status and reply for a sample without a reward."""
    with resources_server(**settings) as port:
        return answers(port, ("/verify", body(item)))[0]


def is_failure(answer: tuple[int, Any], kind: str) -> bool:
    """Whether Gym leaves the sample out of training: it is masked where Gym can do that, else it is an error."""
    status, reply = answer
    if not CAN_MASK:
        return status == 500
    return (
        status == 200
        and reply["mask_sample"] is True
        and reply["failure_kind"] == kind
        and reply["failure_reason"]
    )


def test_a_verified_response_has_the_reward_of_the_service(service: ServiceProcess) -> None:
    direct = service.score([OPEN, CLOSED])["results"]

    replies = verified([OPEN, CLOSED], url=service.url)

    assert [reply["reward"] for reply in replies] == pytest.approx([one["reward"] for one in direct], rel=1e-6)
    assert all(not reply.get("mask_sample") for reply in replies)
    for reply, one in zip(replies, direct, strict=True):
        assert {name: reply.get(f"glassbox/{name}") for name in one["features"]} == one["features"]


def test_the_reply_repeats_the_request(service: ServiceProcess) -> None:
    sent = body(CLOSED, _ng_task_index=3, category="sums")
    with resources_server(url=service.url) as port:
        status, reply = answers(port, ("/verify", sent))[0]

    assert status == 200
    assert reply["response"]["output"][0]["content"][0]["text"] == "Four"
    assert {name: reply[name] for name in ("_ng_task_index", "category", "expected_answer")} == {
        "_ng_task_index": 3,
        "category": "sums",
        "expected_answer": "Four",
    }


def test_gym_averages_features_over_the_responses_that_have_them(service: ServiceProcess) -> None:
    replies = verified([OPEN, CLOSED], url=service.url)
    rows = [reply | {"_ng_task_index": i, "_ng_rollout_index": 0} for i, reply in enumerate(replies)]
    with resources_server(url=service.url) as port:
        status, metrics = answers(port, ("/aggregate_metrics", {"verify_responses": rows}))[0]

    relevance = service.score([CLOSED])["results"][0]["features"]["reference_relevance"]
    assert status == 200
    assert metrics["agent_metrics"]["mean/reward"] == pytest.approx(
        sum(r["reward"] for r in replies) / 2, rel=1e-6
    )
    assert metrics["agent_metrics"]["mean/glassbox/reference_relevance"] == pytest.approx(relevance, rel=1e-6)


def test_a_session_begins(service: ServiceProcess) -> None:
    with resources_server(url=service.url) as port:
        assert answers(port, ("/seed_session", body(OPEN)))[0][0] == 200


def test_it_waits_for_a_service_that_comes_back(service: ServiceProcess) -> None:
    direct = service.score([OPEN])["rewards"]
    with service.away():
        replies = verified([OPEN], url=service.url)

    assert [reply["reward"] for reply in replies] == pytest.approx(direct, rel=1e-6)


def test_a_service_that_stays_away_is_a_failure(service: ServiceProcess) -> None:
    with service.stopped():
        assert is_failure(failure(OPEN, url=service.url, deadline_s=1), "transport_unreachable")


def test_a_response_that_cannot_be_scored_is_a_failure(service: ServiceProcess) -> None:
    assert is_failure(failure(OPEN | {"query_type": "closed_ended"}, url=service.url), "verifier_error")


def test_nan_of_a_model_is_a_failure(nan_service: ServiceProcess) -> None:
    assert is_failure(failure(OPEN, url=nan_service.url), "verifier_error")


def test_a_wrong_key_is_an_error_of_every_release(keyed_service: ServiceProcess) -> None:
    status, _ = failure(OPEN, url=keyed_service.url, api_key="wrong")

    assert status == 500


@gym_07
def test_gym_leaves_a_masked_sample_out_of_its_metrics(service: ServiceProcess) -> None:
    with resources_server(url=service.url) as port:
        samples = [OPEN | {"query_type": "closed_ended"}, CLOSED]
        masked, good = (reply for _, reply in answers(port, *(("/verify", body(one)) for one in samples)))
        rows = [reply | {"_ng_task_index": 0, "_ng_rollout_index": i} for i, reply in enumerate((masked, good))]
        _, metrics = answers(port, ("/aggregate_metrics", {"verify_responses": rows}))[0]

    assert masked["mask_sample"]
    assert metrics["agent_metrics"]["mean/reward"] == good["reward"]


@gym_07
def test_gym_may_verify_a_response_again(service: ServiceProcess) -> None:
    with resources_server(url=service.url) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/reverify_mode").json() == "stateless"
