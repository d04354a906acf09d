"""Waits for the disk of data sets that end: a disk that does not answer must not stop the threads of other work.

call ─▶ the disk's thread ─▶ result; SlowDiskError when the call that runs takes longer than `DISK_S`, for those
                             behind it too, and for new ones at once; or after `WAIT_S` behind others
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from reward_service.errors import SlowDiskError

DISK_S = 1.0
"""Seconds in which a file must be opened: one that works takes milliseconds, and preparation waits meanwhile."""
WAIT_S = 5.0
"""Seconds that a call waits for its result when a disk works, but slowly, and others are before it; `DISK_S` in
preparation, whose threads other requests need."""
_RETRY_S = 5.0
"""`Retry-After`: when a disk answers again is not known."""
ResultT = TypeVar("ResultT")


class DiskThread:
    """Calls that may wait for a disk, one after another in a thread that does not keep the process alive."""

    def __init__(self, timeout_s: float = DISK_S) -> None:
        self._timeout_s = timeout_s
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._began: float | None = None
        """When the call that runs began."""
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def call(self, function: Callable[[], ResultT], max_wait_s: float = WAIT_S) -> ResultT:
        """The result of `function`. Raises SlowDiskError when it takes too long, or others do before it."""
        began = time.monotonic()
        self._check(began, max_wait_s)
        self._start()
        future: Future[ResultT] = Future()
        self._calls.put((future, function))
        while True:
            with suppress(TimeoutError):
                return future.result(self._left_s(began + max_wait_s))
            if future.done():  # just now, or TimeoutError is the function's own
                return future.result()
            try:
                self._check(began, max_wait_s)
            except SlowDiskError:
                future.cancel()
                raise

    @contextmanager
    def locked(self, lock: threading.Lock, max_wait_s: float = WAIT_S) -> Iterator[None]:
        """Hold `lock`, which others hold while they wait for the disk. Raises SlowDiskError."""
        began = time.monotonic()
        while not lock.acquire(timeout=self._left_s(began + max_wait_s)):
            self._check(began, max_wait_s)
        try:
            yield
        finally:
            lock.release()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="data-sets", daemon=True)
                self._thread.start()

    def _left_s(self, give_up: float) -> float:
        """Seconds, at least a few milliseconds, until the call that runs is overdue, or until `give_up`."""
        began, now = self._began, time.monotonic()
        overdue = (now if began is None else began) + self._timeout_s
        return max(min(overdue, give_up) - now, 0.005)

    def _check(self, since: float, max_wait_s: float) -> None:
        """Raise SlowDiskError if the call that runs is overdue, or `max_wait_s` have passed `since`."""
        began, now = self._began, time.monotonic()
        if began is not None and now - began >= self._timeout_s:
            limit_s = self._timeout_s
        elif now - since >= max_wait_s:
            limit_s = max_wait_s
        else:
            return
        raise SlowDiskError(
            f"the disk of the data sets did not answer within {limit_s:g} s; check the one that datasets_dir is "
            "on. Requests without data sets are not affected",
            _RETRY_S,
        )

    def _work(self) -> None:
        while True:
            self._run(*self._calls.get())  # a function, so that nothing refers to the result of the last call

    def _run(self, future: Future[Any], function: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        self._began = time.monotonic()
        try:
            future.set_result(function())
        except BaseException as exc:  # noqa: BLE001 - the caller gets it through the future
            future.set_exception(exc)
        self._began = None
