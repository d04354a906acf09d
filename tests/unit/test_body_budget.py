"""DiskBudget for bodies is taken when a request is admitted, not when its bytes arrive."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from starlette.types import Message, Receive

from reward_service.admission.body_limits import BodyBudget
from reward_service.errors import NoRoomError
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics


def request(content: bytes) -> tuple[dict[bytes, bytes], Receive]:
    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    return {b"content-length": str(len(content)).encode()}, receive


def test_who_is_admitted_has_room_and_who_is_not_is_told_before_sending_anything() -> None:
    async def scenario() -> None:
        bodies = BodyBudget(Settings(max_waiting_bytes=1000), Metrics())
        first, second = request(b"a" * 600), request(b"b" * 600)
        with bodies.reservation(*first) as place, bodies.reservation(*second) as other:
            place.reserve()
            with pytest.raises(NoRoomError):
                other.reserve()
            assert len(await place.read()) == 600
            with pytest.raises(NoRoomError):
                other.reserve()

        with bodies.reservation(*second) as place:
            place.reserve()
            assert len(await place.read()) == 600

    asyncio.run(scenario())


def test_who_has_no_room_is_told_when_there_will_be_by_how_fast_bodies_leave() -> None:
    now_s = 0.0

    async def refusal(bodies: BodyBudget) -> float:
        with bodies.reservation(*request(b"x" * 400)) as place, pytest.raises(NoRoomError) as refused:
            place.reserve()
        return refused.value.retry_after_s

    async def scenario() -> list[float]:
        nonlocal now_s
        bodies = BodyBudget(Settings(max_waiting_bytes=1000), Metrics(), clock=lambda: now_s)
        waits = []
        with ExitStack() as staying:
            for _ in range(4):
                leaving = ExitStack()
                for stack in (staying, leaving):
                    place = stack.enter_context(bodies.reservation(*request(b"y" * 100)))
                    place.reserve()
                now_s += 10  # ten bytes a second leave
                leaving.close()
            staying.enter_context(bodies.reservation(*request(b"z" * 400))).reserve()
            waits.append(await refusal(bodies))  # 200 bytes too many
            now_s += 10
            waits.append(await refusal(bodies))
        with bodies.reservation(*request(b"z" * 1000)) as place:  # a later crowd: nothing is known of it
            place.reserve()
            now_s += 3
            waits.append(await refusal(bodies))
        return waits

    assert asyncio.run(scenario()) == [20.0, 25.0, 1.0]


def test_bodies_that_leave_with_one_batch_say_how_fast_batches_are() -> None:
    now_s = 0.0

    async def scenario() -> list[float]:
        nonlocal now_s
        bodies = BodyBudget(Settings(max_waiting_bytes=1000), Metrics(), clock=lambda: now_s)
        with bodies.reservation(*request(b"stays" * 20)) as staying:
            staying.reserve()
            for _ in range(3):
                with ExitStack() as batch:
                    for _ in range(90):
                        batch.enter_context(bodies.reservation(*request(b"z" * 10))).reserve()
                    now_s += 10
            with bodies.reservation(*request(b"z" * 900)) as place:
                place.reserve()
                waits = []
                for _ in range(2):
                    with bodies.reservation(*request(b"x" * 900)) as other, pytest.raises(NoRoomError) as refused:
                        other.reserve()
                    waits.append(refused.value.retry_after_s)
                    now_s += 10
        return waits

    assert asyncio.run(scenario()) == [10.0, pytest.approx(40 / 3)]


@pytest.mark.parametrize("declared", [1000, 2 * 2**20])
def test_a_body_longer_than_declared_is_read_whole_and_counted(declared: int) -> None:
    chunks = [b"a" * declared, b"b" * declared]

    async def receive() -> Message:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def scenario() -> None:
        bodies = BodyBudget(Settings(), Metrics())
        headers = {b"content-length": str(declared).encode()}
        with bodies.reservation(headers, receive) as reservation:
            reservation.reserve()
            body = await reservation.read()

            assert bytes(body) == b"a" * declared + b"b" * declared
            assert reservation.bytes == 2 * declared

    asyncio.run(scenario())
