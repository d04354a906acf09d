"""Who gets a core when there are too few: a model in the middle of a layer, or a thread that wakes up to answer.

The threads of a model go through a layer together, so that stopping one of them stops all. Linux only: elsewhere
nothing happens. Threads inherit what their starter has.
"""

from __future__ import annotations

import contextlib
import os

__all__ = ["set_batch", "set_normal"]


def set_batch() -> None:
    """This thread takes a core that is free, or waits for its turn; waking up stops nobody else."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def set_normal() -> None:
    """This thread takes cores as any thread does."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
