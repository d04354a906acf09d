"""Runs jobs that consist of small steps, in a few threads that the callers share fairly.

    run(caller, steps) ─▶ the caller's waiting jobs ─▶ a thread runs steps for one turn ─┬▶ unfinished: wait again
                                                                                         └▶ result, or error
A job is a generator that yields after each step. Each turn goes to the caller whose jobs have received the least
time, so that a small job starts within a turn or two whatever large jobs of other callers wait. A caller that was
idle starts at the time of the caller served last (start-time fair queueing: Goyal, Vin & Cheng, SIGCOMM 1996).
Within a caller, new jobs and started ones alternate. A job whose task is cancelled ends before its next step.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import traceback
from collections import deque
from collections.abc import Generator
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from operator import attrgetter
from types import TracebackType
from typing import Any, Self, TypeVar

from reward_service.errors import NotReadyError, OverloadedError
from reward_service.fair_share import caller_class

ResultT = TypeVar("ResultT")
Steps = Generator[None, None, ResultT]
"""A job: yields after each step, returns its result."""

_TURN_S = 0.001
"""Seconds after which a job's turn ends, at its next step."""
_PAUSE_S = 50e-6
"""Seconds of pause after the turn of a job that is not finished: gives the interpreter's lock to the event loop,
which would otherwise wait 5 ms for it whenever it wakes up."""
_JOB_BYTES = 1024
"""Bytes that take as long to prepare as what each job needs besides its body."""
_RESTART_S = 2.0
"""`Retry-After` of the jobs that wait when the executor is stopped."""
_JOIN_S = 1.0
"""Seconds to wait for the running steps when the executor is stopped."""
_MEMORY = 0.95
"""Weight of the past in the measured speed, for each finished job."""


def settle(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    result: object,
    error: BaseException | None = None,
) -> None:
    """Complete `future`, from any thread, in its event loop. An error that is no Exception is made one."""
    if error is not None and not isinstance(error, Exception):
        error = RuntimeError(f"{type(error).__name__}: {error}")
    with contextlib.suppress(RuntimeError):  # the event loop is closed: no task waits
        loop.call_soon_threadsafe(_settle, future, result, error)


def complete(steps: Steps[ResultT]) -> ResultT:
    """The result of `steps`, all run here."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: ResultT = end.value
            return result


@dataclass(slots=True, eq=False)
class _Caller:
    received_s: float
    """Seconds that its jobs have run; those of a caller that was idle count as if it had waited."""
    new: deque[_Job] = field(default_factory=deque)
    started: deque[_Job] = field(default_factory=deque)
    started_next: bool = False
    """Whether the next turn is for a started job, if there is one."""
    n_bytes: int = 0
    """Of unfinished jobs."""
    n_jobs: int = 0
    """Unfinished jobs, the running ones included."""

    def take(self) -> _Job:
        """The job whose turn it is."""
        jobs = self.started if self.started and (self.started_next or not self.new) else self.new
        self.started_next = jobs is self.new
        return jobs.popleft()


@dataclass(slots=True, eq=False)
class _Job:
    caller: _Caller
    steps: Steps[Any]
    n_bytes: int
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    context: Context = field(default_factory=copy_context)
    """Of the request, for log records."""
    spent_s: float = 0.0
    succeeded: bool = False

    def settle(self, result: object, error: BaseException | None) -> None:
        """Complete the future in its event loop."""
        settle(self.loop, self.future, result, error)


class StepExecutor:
    """Runs jobs in `threads` threads, until the context ends; what a caller may have waiting is `max_waiting_s`.

    The threads are daemons: a step that never returns must not keep the process alive.
    """

    def __init__(self, threads: int, max_waiting_s: float, *, name: str = "preparation") -> None:
        self._max_waiting_s = max_waiting_s
        self._lock = threading.Condition()
        self._callers: dict[str, _Caller] = {}
        self._now_s = 0.0
        """`received_s` of the caller served last, when its turn began."""
        self._stopped = False
        self._measured_s, self._measured_bytes = 0.0, 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def n_jobs(self) -> int:
        """Unfinished jobs, the running ones included."""
        return sum(caller.n_jobs for caller in list(self._callers.values()))

    @property
    def n_bytes(self) -> int:
        """Bytes of the bodies that these jobs prepare."""
        return sum(caller.n_bytes for caller in list(self._callers.values()))

    def check(self, caller: str) -> None:
        """Raise OverloadedError if the unfinished jobs of `caller` need more than `max_waiting_s` already.

        They get one part of the time for each active caller.
        """
        active = self._callers.get(caller)
        if active is None or not active.n_bytes:
            return
        callers = list(self._callers.values())
        n_active = sum(1 for other in callers if other.n_jobs)
        measured = self._measured_s / self._measured_bytes if self._measured_bytes else 0.0
        wait_s = n_active * active.n_bytes * measured / len(self._threads)
        if wait_s > self._max_waiting_s:
            raise OverloadedError(
                f"{active.n_jobs} requests are being prepared, about {wait_s:.0f} s of work; at most "
                f"{self._max_waiting_s:g} s may wait",
                retry_after_s=wait_s / 2,
                caller_class=caller_class(active.n_bytes, (other.n_bytes for other in callers)),
            )

    async def run(self, caller: str, steps: Steps[ResultT], n_bytes: int = 0) -> ResultT:
        """The result of `steps`. If the task is cancelled, so is the job.

        Args:
            caller: who the job's time is counted for.
            steps: the job.
            n_bytes: size of the body that is prepared; 0 for other jobs, which `check` does not count.
        """
        job = self._start(caller, steps, n_bytes)
        try:
            await job.future
        except asyncio.CancelledError:
            self._drop(job)
            raise
        result: ResultT = job.future.result()
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._lock:
            self._stopped = True
            waiting = [job for caller in self._callers.values() for job in (*caller.new, *caller.started)]
            self._lock.notify_all()
        for job in waiting:
            job.settle(None, _stopped())
        await asyncio.to_thread(self._join, time.monotonic() + _JOIN_S)

    def _join(self, until: float) -> None:
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _start(self, caller: str, steps: Steps[Any], n_bytes: int) -> _Job:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._stopped:
                raise _stopped()
            active = self._caller(caller)
            job = _Job(active, steps, n_bytes and n_bytes + _JOB_BYTES, loop.create_future(), loop)
            active.new.append(job)
            active.n_jobs += 1
            active.n_bytes += job.n_bytes
            self._lock.notify()
        return job

    def _caller(self, name: str) -> _Caller:
        """The caller, who starts at the current time if it was idle."""
        caller = self._callers.get(name)
        if caller is None:
            self._callers = {n: c for n, c in self._callers.items() if c.n_jobs or c.received_s > self._now_s}
            caller = self._callers[name] = _Caller(self._now_s)
        elif not caller.n_jobs:
            caller.received_s = max(caller.received_s, self._now_s)
        return caller

    def _drop(self, job: _Job) -> None:
        """Forget a cancelled job if it waits; the thread that runs it does otherwise."""
        with self._lock:
            for jobs in (job.caller.new, job.caller.started):
                with contextlib.suppress(ValueError):
                    jobs.remove(job)
                    self._end(job)
                    break
            else:
                return
        job.steps.close()

    def _end(self, job: _Job) -> None:
        job.caller.n_jobs -= 1
        job.caller.n_bytes -= job.n_bytes

    # Threads --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._next()) is not None:
            began = time.monotonic()
            unfinished = job.context.run(_turn, job, began + _TURN_S)
            self._account(job, time.monotonic() - began, unfinished=unfinished)
            del job  # its memory, while this thread waits
            if unfinished:
                time.sleep(_PAUSE_S)

    def _next(self) -> _Job | None:
        with self._lock:
            while not self._stopped:
                waiting = [caller for caller in self._callers.values() if caller.new or caller.started]
                if waiting:
                    caller = min(waiting, key=_received_s)
                    self._now_s = max(self._now_s, caller.received_s)
                    return caller.take()
                self._lock.wait()
        return None

    def _account(self, job: _Job, seconds: float, *, unfinished: bool) -> None:
        with self._lock:
            job.caller.received_s += seconds
            job.spent_s += seconds
            if unfinished and not self._stopped:
                job.caller.started.append(job)
                return
            self._end(job)
            if unfinished:
                job.settle(None, _stopped())
            if job.n_bytes and job.succeeded:  # a wrong body is read to its first errors only
                self._measured_s = _MEMORY * self._measured_s + job.spent_s
                self._measured_bytes = _MEMORY * self._measured_bytes + job.n_bytes


_received_s = attrgetter("received_s")


def _turn(job: _Job, until: float) -> bool:
    """Run steps of `job`; whether more remain when the time is over."""
    try:
        while not job.future.done():
            next(job.steps)
            if time.monotonic() >= until:
                return True
        job.steps.close()
    except StopIteration as end:
        job.succeeded = True
        job.settle(end.value, None)
    except BaseException as exc:  # noqa: BLE001 - the task that waits gets it
        traceback.clear_frames(exc.__traceback__)  # they hold the body until the next garbage collection
        job.settle(None, exc)
    return False


def _stopped() -> NotReadyError:
    return NotReadyError("the service was stopped", retry_after_s=_RESTART_S)


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
