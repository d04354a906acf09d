"""Limits of requests that do not score: uploads and other requests of one caller are counted separately."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from reward_service.http.other_requests import OtherRequestsMiddleware
from reward_service.http.problems import error_response
from reward_service.http.request_context import RequestContextMiddleware
from reward_service.telemetry.metrics import Metrics

UPLOAD: dict[str, Any] = {"method": "PUT", "url": "http://x/datasets/a", "content": b"{}"}
OTHER: dict[str, Any] = {"method": "GET", "url": "http://x/info"}


def limited(app: ASGIApp, most: int) -> ASGIApp:
    metrics = Metrics()
    inner = OtherRequestsMiddleware(app, most, error_response, metrics)
    return RequestContextMiddleware(inner, [], error_response, metrics)


@pytest.mark.parametrize(("held", "free"), [(UPLOAD, OTHER), (OTHER, UPLOAD)], ids=["uploads", "others"])
def test_unanswered_uploads_and_other_requests_do_not_block_each_other(
    held: dict[str, Any], free: dict[str, Any]
) -> None:
    async def scenario() -> None:
        begun, over = asyncio.Semaphore(0), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] == held["method"]:
                begun.release()
                await over.wait()
            await Response("done")(scope, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(limited(app, 2))) as client:
            waiting = [asyncio.create_task(client.request(**held)) for _ in range(2)]
            for _ in waiting:
                await begun.acquire()
            refused, answered = await client.request(**held), await client.request(**free)
            over.set()
            later = await client.request(**held)

            assert [reply.status_code for reply in await asyncio.gather(*waiting)] == [200, 200]
        assert (refused.status_code, answered.status_code, later.status_code) == (429, 200, 200)
        assert refused.headers["retry-after"] == "1"
        assert "max_other_requests" in refused.json()["detail"]

    asyncio.run(scenario())
