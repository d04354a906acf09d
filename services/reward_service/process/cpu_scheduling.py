"""CPU scheduling classes of threads: threads of a model must not be preempted by threads that answer requests.

The threads of a model compute a layer together, so that preempting one of them delays all. Linux only: no effect
elsewhere. A thread inherits the class of the thread that starts it.
"""

from __future__ import annotations

import contextlib
import os

__all__ = ["set_batch", "set_normal"]


def set_batch() -> None:
    """Run this thread in the batch class: when it wakes up, it preempts no other thread."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def set_normal() -> None:
    """Run this thread in the normal class."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
