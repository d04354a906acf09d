"""What runs the calls of one model: a thread, for a model in this process."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from reward_service.batching.step_executor import settle
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
                result = function(*args)
            except BaseException as exc:  # noqa: BLE001 - the caller gets it through the future
                settle(loop, future, None, exc)
            else:
                settle(loop, future, result)

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
