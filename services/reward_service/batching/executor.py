"""Executors: where the calls of one model run.

    ThreadExecutor   in a thread: the model is loaded there, runs there, and is abandoned with it when it hangs

An executor for a remote model starts a coroutine for each call instead, and may have several requests in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from reward_service.process.cpu_scheduling import set_normal

ResultT = TypeVar("ResultT")


class Executor(Protocol):
    """Runs the calls of one model."""

    def call(self, function: Callable[..., Any], *args: object) -> asyncio.Future[Any]:
        """Start `function(*args)`, after all earlier calls have ended; the future has its result or error."""
        ...

    def stop(self) -> None:
        """Accept no more calls, and end after the last one; does not wait."""
        ...

    def join(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for the end. Blocks."""
        ...


class ThreadExecutor:
    """Runs calls one after another in one thread.

    The thread is a daemon, unlike those of a pool: a model that never returns must not keep the process alive.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., ResultT], *args: object) -> asyncio.Future[ResultT]:
        """The result of `function(*args)`, called after all earlier calls."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()

        def work() -> None:
            try:
                settle = _success(future, function(*args))
            except BaseException as exc:  # noqa: BLE001 - the caller gets it through the future
                settle = _failure(future, exc)
            with contextlib.suppress(RuntimeError):  # the event loop is closed: no caller waits
                loop.call_soon_threadsafe(settle)

        self._calls.put(work)
        return future

    def stop(self) -> None:
        """End the thread after its last call; does not wait for it."""
        self._calls.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for the thread to end."""
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
