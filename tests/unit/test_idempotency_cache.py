"""The idempotency cache: keys belong to their caller, and callers share its room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reward_service.admission.idempotency import IdempotencyCache
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics


def kept(puts: Sequence[tuple[str, str, int]], **settings: Any) -> set[tuple[str, str]]:
    """The keys that are kept after replies of (caller, key, bytes) were computed in turn."""

    async def scenario() -> set[tuple[str, str]]:
        cache = IdempotencyCache(Settings.model_validate(settings), Metrics())

        async def reply(n_bytes: int) -> bytes:
            return b"x" * n_bytes

        for caller, key, n_bytes in puts:
            await cache.get_or_compute((caller, key), b"request", partial(reply, n_bytes))
        return {(caller, key) for caller, key, _ in puts if cache.contains((caller, key))}

    return asyncio.run(scenario())


def test_a_key_of_another_caller_is_another_key() -> None:
    async def scenario() -> list[bytes]:
        cache = IdempotencyCache(Settings(), Metrics())

        async def reply(text: bytes) -> bytes:
            return text

        return [
            await cache.get_or_compute((caller, "k"), b"request", partial(reply, caller.encode()))
            for caller in "ABA"
        ]

    assert asyncio.run(scenario()) == [b"A", b"B", b"A"]


def test_a_caller_with_many_replies_loses_its_own_oldest_and_no_other_callers() -> None:
    puts = [("A", "a0", 1), ("B", "b0", 1), *(("A", f"a{n}", 1) for n in range(1, 20))]

    assert kept(puts, idempotency_entries=4) == {("B", "b0"), ("A", "a17"), ("A", "a18"), ("A", "a19")}


def test_a_newcomer_gets_room_from_the_caller_with_most() -> None:
    puts = [*(("A", f"a{n}", 10) for n in range(9)), ("B", "b0", 10), ("C", "c0", 30), ("B", "b1", 10)]

    left = kept(puts, idempotency_bytes=100, idempotency_entries=100)

    assert {("B", "b0"), ("B", "b1"), ("C", "c0")} <= left
    assert ("A", "a8") in left


def test_a_large_reply_does_not_push_out_those_of_others() -> None:
    puts = [("B", "b0", 50), ("A", "a0", 60)]

    assert kept(puts, idempotency_bytes=100, idempotency_entries=100) == {("B", "b0")}


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 30).map(str), st.integers(0, 120)), max_size=40))
def test_whatever_is_kept_fits(puts: list[tuple[str, str, int]]) -> None:
    unique = list({(caller, key): (caller, key, n_bytes) for caller, key, n_bytes in puts}.values())
    left = kept(unique, idempotency_bytes=100, idempotency_entries=10)

    assert sum(max(n_bytes, 10) for caller, key, n_bytes in unique if (caller, key) in left) <= 100
    assert len(left) <= 10
