"""Waits for the disk of data sets that end: a disk that does not answer must not stop the threads of other work.

call ─▶ the disk's thread ─▶ result within `DISK_S`, else StorageError; while a call is overdue, at once
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from reward_service.errors import StorageError

DISK_S = 1.0
"""Seconds in which a file must be opened: one that works takes milliseconds, and preparation waits meanwhile."""
ResultT = TypeVar("ResultT")


class DiskThread:
    """Calls that may wait for a disk, one after another in a thread that does not keep the process alive."""

    def __init__(self, timeout_s: float = DISK_S) -> None:
        self._timeout_s = timeout_s
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._began: float | None = None
        """When the call that runs began."""
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], ResultT]) -> ResultT:
        """The result of `function`. Raises StorageError when it takes too long."""
        began = self._began
        if began is not None and time.monotonic() - began > self._timeout_s:
            raise self._overdue()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="data-sets", daemon=True)
            self._thread.start()
        future: Future[ResultT] = Future()
        self._calls.put((future, function))
        try:
            return future.result(self._timeout_s)
        except TimeoutError:
            if future.done():  # the function's own
                raise
            future.cancel()
            raise self._overdue() from None

    @contextmanager
    def locked(self, lock: threading.Lock) -> Iterator[None]:
        """Hold `lock`, which others hold while they wait for the disk. Raises StorageError."""
        if not lock.acquire(timeout=self._timeout_s):
            raise self._overdue()
        try:
            yield
        finally:
            lock.release()

    def _overdue(self) -> StorageError:
        return StorageError(
            f"the disk of the data sets did not answer within {self._timeout_s:g} s; check the one that "
            "datasets_dir is on. Requests without data sets are not affected"
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
