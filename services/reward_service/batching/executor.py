"""The thread that a model lives in: it loads there and runs there, and can be left behind when it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from reward_service.process.cpu_scheduling import set_normal

__all__ = ["ModelThread"]

ResultT = TypeVar("ResultT")


class ModelThread:
    """Runs calls one after another, in one thread of its own.

    A daemon, unlike a pool's threads: a model that never returns must not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., ResultT], *args: object) -> asyncio.Future[ResultT]:
        """The result of `function(*args)`, called after whatever was asked for before."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()

        def work() -> None:
            try:
                settle = _success(future, function(*args))
            except BaseException as exc:  # noqa: BLE001 - told to whoever waits, who decides
                settle = _failure(future, exc)
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(settle)

        self._calls.put(work)
        return future

    def stop(self) -> None:
        """End the thread after its last call; does not wait for it."""
        self._calls.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end, for a while."""
        self._thread.join(timeout_s)

    def _work(self) -> None:
        set_normal()
        while (work := self._calls.get()) is not None:
            work()


def _success(future: asyncio.Future[ResultT], result: ResultT) -> Callable[[], None]:
    return lambda: None if future.done() else future.set_result(result)


def _failure(future: asyncio.Future[ResultT], exc: BaseException) -> Callable[[], None]:
    error = exc if isinstance(exc, Exception) else RuntimeError(f"{type(exc).__name__}: {exc}")
    return lambda: None if future.done() else future.set_exception(error)
