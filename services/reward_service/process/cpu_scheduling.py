"""Linux scheduling policy of threads: those that serve requests yield the CPU to those that run a model.

The threads of a model compute each layer together, so that preempting one of them delays all. Threads inherit the
policy of the thread that starts them. On other systems both functions do nothing.
"""

import contextlib
import os


def set_batch() -> None:
    """Give this thread the policy SCHED_BATCH: it does not preempt other threads when it wakes up."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def set_normal() -> None:
    """Give this thread the default policy, SCHED_OTHER."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
