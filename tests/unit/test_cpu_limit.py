"""Calls with a limit on their CPU time."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reward_service.cpu_limit import CpuLimitExceeded, LimitedCaller


def count_for_ever() -> int:
    number = 0
    while number >= 0:
        try:
            number += 1
        except Exception:  # noqa: BLE001 (library code that catches everything)
            number = 0
    return number


def test_a_call_within_the_limit_returns_its_result() -> None:
    assert LimitedCaller()(lambda: 7, limit_s=5) == 7


def test_a_call_beyond_the_limit_ends_in_any_thread() -> None:
    run = LimitedCaller()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: run(count_for_ever, limit_s=0.1), range(3)))

    assert results == [None, None, None]
    assert run(lambda: 7, limit_s=5) == 7


def swallow_once() -> int:
    try:
        return count_for_ever()
    except BaseException:  # noqa: BLE001 (as a finalizer does)
        return count_for_ever()


def test_a_call_that_swallows_the_exception_ends_too() -> None:
    assert LimitedCaller()(swallow_once, limit_s=0.1) is None


def test_an_exception_that_is_raised_when_the_call_has_ended_leaves_no_limit_on_the_thread() -> None:
    thread = ctypes.c_ulong(threading.get_ident())

    def raise_at_the_end(frame: Any, event: str, arg: object) -> None:
        if event == "call" and frame.f_code is threading.Event.set.__code__:
            sys.setprofile(None)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(CpuLimitExceeded))

    def call() -> int:
        sys.setprofile(raise_at_the_end)
        return 7

    LimitedCaller()(call, limit_s=0.1)

    for watcher in (one for one in threading.enumerate() if one.name == "cpu-limit"):
        watcher.join(timeout=5)
        assert not watcher.is_alive()


def test_waiting_uses_no_cpu_time() -> None:
    """A busy machine, which makes a call wait, changes no outcome."""
    assert LimitedCaller()(lambda: threading.Event().wait(0.3), limit_s=0.1) is False


def test_calls_run_one_at_a_time() -> None:
    run, running, most = LimitedCaller(), [0], [0]

    def call() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)  # lets another thread in, if it can come in
        running[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: run(call, limit_s=5), range(8)))

    assert most == [1]
