"""A submission: the units that one caller gave to a worker, from queueing to their outcomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from reward_service.batching.queue import Ticket

__all__ = ["Done", "Submission"]

OutT = TypeVar("OutT")


@dataclass(frozen=True, slots=True)
class Done(Generic[OutT]):
    """Outcomes of one submission, in order, and its timings."""

    outcomes: list[OutT | Exception]
    """For each unit its result, or the error of the model."""
    shared: int
    """Units that were already queued for another request."""
    queue_s: float
    """Seconds from submission to the start of the first batch."""
    model_s: float
    """Seconds of all forward passes with units of this submission."""


@dataclass(slots=True, eq=False)
class Submission(Generic[OutT]):
    """Units that a worker has queued. The caller must close it, also after an error."""

    ticket: Ticket[Any, OutT]
    on_close: Callable[[Ticket[Any, OutT]], None]
    """Called by `close`: removes the queued units that no other submission waits for."""
    finished: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Done when each unit has its outcome."""
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    """When the first batch with one of its units started."""
    model_s: float = 0.0

    def result(self) -> Done[OutT]:
        """The outcomes, once `finished` is done. Raises NotReadyError if the worker ended before."""
        self.finished.result()
        outcomes = [outcome for outcome in self.ticket.outcomes if outcome is not None]
        return Done(outcomes, self.ticket.shared, (self.started or self.submitted) - self.submitted, self.model_s)

    def close(self) -> None:
        """Cancel the units that are still queued. Idempotent."""
        self.on_close(self.ticket)

    def finish(self, error: Exception | None = None) -> None:
        """Complete `finished`, with `error` if given. Idempotent."""
        if self.finished.done():
            return
        if error is None:
            self.finished.set_result(None)
        else:
            self.finished.set_exception(error)
