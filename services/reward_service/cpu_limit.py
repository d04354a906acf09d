"""Calls of library code with a limit on their CPU time, in any thread."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

ResultT = TypeVar("ResultT")

_CHECK_EVERY_S = 0.05


class CpuLimitExceeded(BaseException):
    """Raised in the limited code, which may catch Exception."""


class LimitedCaller:
    """Runs calls one at a time, each with a limit on its CPU time, so that a busy machine changes no outcome.

    A call ends between two operations of the interpreter: single operations have to be bounded by their input.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, call: Callable[[], ResultT], limit_s: float) -> ResultT | None:
        """The result of `call`; None if it used `limit_s` seconds of CPU time."""
        with self._lock, contextlib.suppress(CpuLimitExceeded), _limited(limit_s):
            return call()
        return None


@contextmanager
def _limited(limit_s: float) -> Iterator[None]:
    thread, clock = ctypes.c_ulong(threading.get_ident()), _thread_clock()
    raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
    at, lock, finished = clock() + limit_s, threading.Lock(), threading.Event()
    ended = False

    def watch() -> None:
        due = at
        while not finished.wait(_CHECK_EVERY_S):
            with lock:
                if clock() > due and not finished.is_set():
                    raise_in_thread(thread, ctypes.py_object(CpuLimitExceeded))
                    due = clock() + limit_s  # again, if a finalizer or a bare `except` swallowed it

    threading.Thread(target=watch, name="cpu-limit", daemon=True).start()
    try:
        yield
    finally:
        while not ended:
            try:
                with lock:
                    finished.set()
                for _ in range(3):  # the interpreter looks here for one that is set: it is raised, not withdrawn,
                    continue  # because withdrawing leaves the interpreter looking for ever (Python 3.11)
                ended = True
            except CpuLimitExceeded:
                continue


def _thread_clock() -> Callable[[], float]:
    """CPU time of this thread, readable from others; wall time on systems without it."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)
