"""The memory budget of requests: shared by callers, for what has been received, until it is released."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive

from reward_service.admission.memory import (
    BYTE_COST,
    FURTHER_STRING_COST,
    STRING_COST,
    VALUE_COST,
    MemoryBudget,
    MemoryClaim,
)
from reward_service.admission.transfer import check_head, receive_body
from reward_service.errors import NoRoomError, SlowBodyError
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics

LIMIT = 1000


def run(
    scenario: Callable[[MemoryBudget, Callable[[], float]], Coroutine[Any, Any, None]], **settings: Any
) -> None:
    """Run `scenario` with a budget and its gauge; afterwards nothing may be held."""
    metrics = Metrics()

    def held() -> float:
        families = text_string_to_metric_families(metrics.exposition().decode())
        return next(f.samples[0].value for f in families if f.name == "glassbox_request_bytes")

    async def scenario_and_check() -> None:
        budget = MemoryBudget(Settings.model_validate({"max_waiting_bytes": LIMIT, **settings}), metrics)
        await scenario(budget, held)
        assert held() == 0

    asyncio.run(scenario_and_check())


def test_a_caller_alone_may_use_most_of_it_and_another_finds_room() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        with budget.claim("A") as first, budget.claim("A") as second, budget.claim("B") as other:
            await first.take(800, 0)
            with pytest.raises(NoRoomError):
                second.expect(150)
            other.expect(100)
            await other.take(100, 0)

    run(scenario)


def test_what_was_declared_counts_against_its_caller_only() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        with budget.claim("A") as silent, budget.claim("A") as second, budget.claim("B") as other:
            silent.expect(900)
            with pytest.raises(NoRoomError):
                second.expect(200)
            other.expect(900)
            assert held() == 0
            silent.release()
            second.expect(200)

    run(scenario)


def test_bodies_that_fill_the_memory_together_are_all_received() -> None:
    async def body(budget: MemoryBudget, caller: str) -> None:
        with budget.claim(caller) as claim:
            for _ in range(3):
                await claim.take(300, 5)
                await asyncio.sleep(0)

    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        await asyncio.gather(*(body(budget, caller) for caller in "ABAB"))

    run(scenario)


def test_a_body_that_gets_no_memory_is_refused_after_its_time() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        with budget.claim("A") as first, budget.claim("A") as second, budget.claim("B") as third:
            await first.take(800, 0)
            await second.take(500, 5)  # beside the budget
            with pytest.raises(NoRoomError):
                await third.take(500, 0.01)
            assert held() == 1300
            second.release()
            await third.take(500, 5)

    run(scenario)


def test_a_reply_counts_instead_of_its_request_until_it_is_released() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        with budget.claim("A") as claim:
            await claim.take(400, 0)
            claim.keep(30)
            assert held() == 30

    run(scenario)


def test_work_that_outlives_its_request_does_not_occupy_the_place_beside_the_budget() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        with budget.claim("A") as full, budget.claim("A") as left, budget.claim("B") as other:
            await full.take(1000, 0)
            left.release()  # a request with the same Idempotency-Key waits for the work
            await left.take(100, 5)
            await other.take(500, 5)
            assert held() == 1500

    run(scenario)


def test_a_body_that_waits_does_not_occupy_the_place_beside_the_budget_once_its_request_has_ended() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        with (
            budget.claim("A") as full,
            budget.claim("B") as beside,
            budget.claim("C") as left,
            budget.claim("D") as other,
        ):
            await full.take(1000, 0)
            await beside.take(100, 5)
            waiting = [asyncio.create_task(claim.take(500, 60)) for claim in (left, other)]
            await asyncio.sleep(0)
            left.release()
            beside.release()
            await asyncio.wait(waiting, timeout=5)
            assert held() == 1500

    run(scenario)


def test_a_reply_made_beside_the_budget_stays_there_until_it_is_sent_or_has_room() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        with budget.claim("A") as full, budget.claim("A") as beside, budget.claim("B") as newcomer:
            await full.take(800, 0)
            await beside.take(900, 5)
            beside.keep(700)
            assert held() == 1500
            newcomer.expect(100)  # the budget itself has room
            full.release()
            await newcomer.take(100, 0)
            assert held() == 800

    run(scenario)


def test_the_rest_of_an_upload_does_not_occupy_the_place_beside_the_budget() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        with budget.claim("A") as full, budget.claim("A") as upload, budget.claim("B") as newcomer:
            await full.take(1000, 0)
            await upload.take(900, 5)
            upload.keep(4, is_reply=False)
            await newcomer.take(100, 5)  # beside the budget, before the upload ends

    run(scenario)


steps = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["expect", "take", "take", "take", "keep", "release", "cancel"]),
        st.integers(1, 1200),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_the_order_the_budget_returns_to_zero_and_no_body_waits_forever(
    steps: Sequence[tuple[int, str, int]],
) -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        tasks: dict[int, asyncio.Task[float]] = {}
        with ExitStack() as stack:
            claims = [stack.enter_context(budget.claim("ABC"[n % 3])) for n in range(6)]
            for number, step, n_bytes in steps:
                await _step(claims[number], tasks, number, step, n_bytes)
                await asyncio.sleep(0)
            # Every request that is not waiting ends; so must the others then, without a timeout.
            while tasks:
                for number, claim in enumerate(claims):
                    if number not in tasks:
                        claim.release()
                done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED, timeout=5)
                assert done, "bodies wait for each other"
                tasks = {number: task for number, task in tasks.items() if task not in done}

    run(scenario)


async def _step(
    claim: MemoryClaim, tasks: dict[int, asyncio.Task[float]], number: int, step: str, n_bytes: int
) -> None:
    waiting = tasks.pop(number, None)
    if waiting is not None and not waiting.done():
        if step != "cancel":
            tasks[number] = waiting
            return
        waiting.cancel()
        await asyncio.wait([waiting])
        claim.release()
    elif step == "expect":
        try:
            claim.expect(n_bytes)
        except NoRoomError:
            claim.release()
    elif step == "take":
        tasks[number] = asyncio.create_task(claim.take(n_bytes, 60))
    elif step == "keep":
        claim.keep(n_bytes)
    else:
        claim.release()


def test_a_refusal_states_the_seconds_by_the_speed_of_release() -> None:
    now_s = 0.0

    async def refusal(budget: MemoryBudget) -> float:
        with budget.claim("C") as claim, pytest.raises(NoRoomError) as refused:
            claim.expect(400)
        return refused.value.retry_after_s

    async def scenario() -> list[float]:
        nonlocal now_s
        budget = MemoryBudget(Settings(max_waiting_bytes=LIMIT), Metrics(), clock=lambda: now_s)
        waits = []
        with ExitStack() as staying:
            for _ in range(4):
                leaving = staying.enter_context(budget.claim("A"))
                staying.enter_context(budget.claim("B")).keep(100)
                leaving.keep(100)
                now_s += 10  # ten bytes a second are released
                leaving.release()
            staying.enter_context(budget.claim("B")).keep(400)
            waits.append(await refusal(budget))
            now_s += 10
            waits.append(await refusal(budget))
        with budget.claim("A") as claim:  # after all was released, a new measurement
            claim.keep(1000)
            now_s += 3
            waits.append(await refusal(budget))
        return waits

    assert asyncio.run(scenario()) == [30.0, 30.0, 1.0]


# Receiving ------------------------------------------------------------------------------------------------------


def received(
    chunks: list[bytes], declared: int | None = None, pause_s: float = 0
) -> tuple[dict[bytes, bytes], Receive]:
    async def receive() -> Message:
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    return {} if declared is None else {b"content-length": str(declared).encode()}, receive


@pytest.mark.parametrize("declared", [None, 10, 1000, 2 * 2**20])
@pytest.mark.parametrize("n_chunks", [1, 2, 5])
def test_a_body_is_whole_and_counted_by_what_was_received(declared: int | None, n_chunks: int) -> None:
    chunks = [bytes([65 + n]) * 700_000 for n in range(n_chunks)]
    whole = b"".join(chunks)

    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        settings = Settings()
        headers, receive = received(chunks, declared)
        with budget.claim("A") as claim:
            check_head(headers, claim, settings)
            assert held() == 0
            body = await receive_body(headers, receive, claim, settings, 5)

            assert bytes(body) == whole
            assert held() == BYTE_COST * len(whole)

    run(scenario, max_waiting_bytes=256 * 2**20)


def test_each_of_several_gold_models_is_charged_because_it_has_tokens_of_its_own() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        headers, receive = received([b"A" * 100])
        with budget.claim("A") as claim:
            await receive_body(headers, receive, claim, Settings(), 5)
            assert held() == 3 * BYTE_COST * 100

    run(scenario, gold="a,b,c")


@pytest.mark.parametrize(
    ("body", "strings", "values"),
    [
        (b'{"a": "b"}', 2, 1),
        (rb'["say \"hi\" twice"]', 1, 1),
        (b"[1, 2]", 0, 2),
        (b'["a","b","c"]', 3, 3),
        (b"[[], [[]]]", 0, 5),
    ],
)
def test_strings_and_values_are_charged_because_they_take_more_than_their_bytes(
    body: bytes, strings: int, values: int
) -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        headers, receive = received([body])
        with budget.claim("A") as claim:
            await receive_body(headers, receive, claim, Settings(), 5)
            assert held() == BYTE_COST * len(body) + STRING_COST * strings + VALUE_COST * values

    run(scenario)


def test_strings_above_those_of_all_items_and_values_above_the_limit_cost_less() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        headers, receive = received([b'"a""a""a"' * 10] * 2 + [b"[" * 40])
        with budget.claim("A") as claim:
            await receive_body(headers, receive, claim, Settings(max_items=1, max_values=50), 5)
            strings = 16 * STRING_COST + 34 * FURTHER_STRING_COST
            assert held() == BYTE_COST * 220 + strings + 40 * VALUE_COST

    run(scenario, max_waiting_bytes=2**20)


def test_work_that_goes_on_after_its_request_has_ended_holds_nothing() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        with budget.claim("A") as claim:
            await claim.take(100, 5)
        await claim.take(100, 5)

        assert held() == 0

    run(scenario)


def test_time_that_a_body_waits_for_memory_is_not_its_clients() -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        settings = Settings(body_timeout_s=0.3)
        headers, receive = received([b"a" * 200, b"b"], pause_s=0.01)
        with budget.claim("A") as first, budget.claim("A") as beside, budget.claim("A") as claim:
            await first.take(800, 0)
            await beside.take(900, 0)
            body = asyncio.create_task(receive_body(headers, receive, claim, settings, 5))
            done, _ = await asyncio.wait([body], timeout=0.5)
            assert not done
            first.release()
            assert len(await body) == 201

    run(scenario)


@pytest.mark.parametrize("chunk", [b"", b"a", b"abc"])
def test_a_body_that_arrives_too_slowly_is_refused_long_before_its_timeout(chunk: bytes) -> None:
    async def scenario(budget: MemoryBudget, held: Callable[[], float]) -> None:
        headers, receive = received([chunk] * 1000, pause_s=0.01)
        with budget.claim("A") as claim, pytest.raises(SlowBodyError):
            await receive_body(headers, receive, claim, Settings(min_body_bytes_per_s=1000), 5, grace_s=0.1)

    run(scenario)
