"""Why OpenRLHF ended before its last step: an exception in its log, a signal, or lack of memory.

exit status, last lines of the log, processes that the kernel ended ──▶ failure_cause() ──▶ one sentence

The kernel counts the processes of the whole machine that it ended, so the count explains only the end of a process
of OpenRLHF that left no exception of its own.
"""

import re
import signal
from collections.abc import Iterable
from pathlib import Path

from reward_trainer.openrlhf.log_parser import last_error

_VMSTAT = Path("/proc/vmstat")
_DIED = re.compile(r"\b(?:ActorDied|ActorUnavailable|WorkerCrashed|NodeDied|LocalRayletDied)Error\b")
"""Ray's errors for one of its processes that ended without an exception."""
_MEMORY = (
    "take fewer rollouts at a time (--micro-batch-size, --prompts-per-step, --max-new-tokens), or a smaller policy"
)


def oom_kills() -> int:
    """Return how many processes of this machine the kernel has ended for lack of memory; 0 if it does not say."""
    try:
        counters = dict(line.split() for line in _VMSTAT.read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return 0
    return int(counters.get("oom_kill", 0))


def failure_cause(return_code: int, lines: Iterable[str], n_oom_kills: int = 0) -> str:
    """Return the cause of an early end.

    Args:
        return_code: as in `subprocess`: negative for a signal.
        lines: the last lines of the log.
        n_oom_kills: processes of this machine that the kernel ended for lack of memory during the run, without
            those that are known not to belong to OpenRLHF.
    """
    log = list(lines)
    error = last_error(log)
    if n_oom_kills > 0 and (return_code == -signal.SIGKILL or any(map(_DIED.search, log))):
        noted = f" (its log: {error})" if error else ""
        n = "a process" if n_oom_kills == 1 else f"{n_oom_kills} processes"
        return (
            f"a process of it was killed, and meanwhile the kernel killed {n} of this machine for lack of "
            f"memory{noted}; {_MEMORY}"
        )
    if return_code < 0:
        return f"it was ended by {_signal_name(-return_code)}" + (f"; its log: {error}" if error else "")
    return error or f"exit status {return_code}, and no exception in its log"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
