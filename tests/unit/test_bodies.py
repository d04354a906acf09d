"""DiskBudget for bodies is taken when a request is admitted, not when its bytes arrive."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from starlette.requests import Request
from starlette.types import Message

from reward_service.admission.body_limits import BodyBudget
from reward_service.errors import NoRoomError
from reward_service.settings import Settings
from reward_service.telemetry.admission_metrics import AdmissionMetrics


def request(content: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    headers = [(b"content-length", str(len(content)).encode())]
    return Request({"type": "http", "method": "POST", "path": "/score", "headers": headers}, receive)


def test_who_is_admitted_has_room_and_who_is_not_is_told_before_sending_anything() -> None:
    async def scenario() -> None:
        bodies = BodyBudget(Settings(max_waiting_bytes=1000), AdmissionMetrics())
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


def test_who_has_no_room_is_told_when_there_will_be_by_how_fast_bodies_leave() -> None:
    now_s = 0.0

    async def refusal(bodies: BodyBudget) -> float:
        with bodies.place(request(b"x" * 400)) as place, pytest.raises(NoRoomError) as refused:
            await place.reserve()
        return refused.value.retry_after_s

    async def scenario() -> list[float]:
        nonlocal now_s
        bodies = BodyBudget(Settings(max_waiting_bytes=1000), AdmissionMetrics(), clock=lambda: now_s)
        waits = []
        with ExitStack() as staying:
            for _ in range(4):
                leaving = ExitStack()
                for stack in (staying, leaving):
                    place = stack.enter_context(bodies.place(request(b"y" * 100)))
                    await place.reserve()
                now_s += 10  # ten bytes a second leave
                leaving.close()
            await staying.enter_context(bodies.place(request(b"z" * 400))).reserve()
            waits.append(await refusal(bodies))  # 200 bytes too many
            now_s += 10
            waits.append(await refusal(bodies))
        with bodies.place(request(b"z" * 1000)) as place:  # a later crowd: nothing is known of it
            await place.reserve()
            now_s += 3
            waits.append(await refusal(bodies))
        return waits

    assert asyncio.run(scenario()) == [20.0, 25.0, 1.0]


def test_bodies_that_leave_with_one_batch_say_how_fast_batches_are() -> None:
    now_s = 0.0

    async def scenario() -> list[float]:
        nonlocal now_s
        bodies = BodyBudget(Settings(max_waiting_bytes=1000), AdmissionMetrics(), clock=lambda: now_s)
        with bodies.place(request(b"stays" * 20)) as staying:
            await staying.reserve()
            for _ in range(3):
                with ExitStack() as batch:
                    for _ in range(90):
                        await batch.enter_context(bodies.place(request(b"z" * 10))).reserve()
                    now_s += 10
            with bodies.place(request(b"z" * 900)) as place:
                await place.reserve()
                waits = []
                for _ in range(2):
                    with bodies.place(request(b"x" * 900)) as other, pytest.raises(NoRoomError) as refused:
                        await other.reserve()
                    waits.append(refused.value.retry_after_s)
                    now_s += 10
        return waits

    assert asyncio.run(scenario()) == [10.0, pytest.approx(40 / 3)]
