"""A slow call whose result all requests share that wait for it: one at a time runs, in a thread of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")


class SharedCall(Generic[ResultT]):
    """The result of `function`, from a call that began after it was asked for: never an older one."""

    def __init__(self, function: Callable[[], ResultT]) -> None:
        self._function = function
        self._thread = ThreadPoolExecutor(1, "shared-call")
        self._running: asyncio.Task[ResultT] | None = None
        self._next: asyncio.Task[ResultT] | None = None
        """Begins when `_running` has ended."""

    async def __call__(self) -> ResultT:
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running), name="shared-call")
        return await asyncio.shield(self._next)  # one request that is cancelled must not cancel it

    async def _after(self, previous: asyncio.Task[ResultT] | None) -> ResultT:
        if previous is not None:
            await asyncio.wait([previous])
        self._running, self._next = self._next, None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._function)
