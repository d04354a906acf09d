"""One caller's units on their way: admitted by a worker, waited for, closed."""

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
    """Outcomes of one submission, in order, and what it cost."""

    outcomes: list[OutT | Exception]
    """A result for each unit, or why there is none."""
    shared: int
    """Units that another request was waiting for already."""
    queue_s: float
    """Seconds from submission to the start of the first batch."""
    model_s: float
    """Seconds of the forward passes that it took part in."""


@dataclass(slots=True, eq=False)
class Submission(Generic[OutT]):
    """Units that a worker has admitted. Whoever has it closes it, whether or not its outcomes have come."""

    ticket: Ticket[Any, OutT]
    forget: Callable[[Ticket[Any, OutT]], None]
    """Takes out of the queue what nobody else waits for."""
    finished: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Done once each unit has its outcome."""
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    """When the first batch with one of its units began."""
    model_s: float = 0.0

    async def done(self) -> Done[OutT]:
        """The outcomes. Raises NotReadyError when the model stops for good before they are known."""
        await self.finished
        outcomes = [outcome for outcome in self.ticket.outcomes if outcome is not None]
        return Done(outcomes, self.ticket.shared, (self.started or self.submitted) - self.submitted, self.model_s)

    def close(self) -> None:
        """Give up what is not done; may be called again."""
        self.forget(self.ticket)

    def finish(self, error: Exception | None = None) -> None:
        """Wake who waits, if anybody does."""
        if self.finished.done():
            return
        if error is None:
            self.finished.set_result(None)
        else:
            self.finished.set_exception(error)
