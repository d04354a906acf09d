"""Room for bodies is taken when a request is admitted, not when its bytes arrive."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from reward_service.api.body import Bodies
from reward_service.api.edge_metrics import EdgeMetrics
from reward_service.errors import NoRoomError
from reward_service.settings import Settings


def request(content: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    headers = [(b"content-length", str(len(content)).encode())]
    return Request({"type": "http", "method": "POST", "path": "/score", "headers": headers}, receive)


def test_who_is_admitted_has_room_and_who_is_not_is_told_before_sending_anything() -> None:
    async def scenario() -> None:
        bodies = Bodies(Settings(max_waiting_bytes=1000), EdgeMetrics())
        first, second = request(b"a" * 600), request(b"b" * 600)
        with bodies.place(first) as place, bodies.place(second) as other:
            await place.reserve()
            with pytest.raises(NoRoomError):
                await other.reserve()
            assert len(await place.read()) == 600
            with pytest.raises(NoRoomError):
                await other.reserve()

        with bodies.place(second) as place:
            await place.reserve()
            assert len(await place.read()) == 600

    asyncio.run(scenario())
