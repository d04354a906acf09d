"""Evaluates each saved checkpoint while the run trains, in a process beside it.

    a new checkpoint, and no process ──▶ glassbox evaluate (low priority) ──▶ evaluation.json, report.html

One process at a time; checkpoints that appear meanwhile are in the next one. Its output is in evaluation.log. A
process that fails does not disturb the training: its checkpoints are in the next evaluation, at the latest in that
after the last step.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from reward_runs.layout import RunDir
from reward_trainer.openrlhf.process import terminate_with_parent

_NICENESS = 10
"""Added to the priority of the process: on a shared CPU the training and its service go first."""
_FIRST_TO_KILL = "1000"
"""Score that makes the kernel end this process, not the training, when memory is exhausted."""
_STOP_GRACE_S = 10.0


def evaluation_command(run: RunDir, reward_url: str, device: str | None) -> list[str]:
    """Return the command that evaluates the checkpoints of `run` that are not evaluated yet."""
    command = [sys.executable, "-m", "reward_evidence.evaluate", "--run-dir", str(run.path)]
    command += ["--reward-url", reward_url]
    return command if device is None else [*command, "--device", device]


class LiveEvaluation:
    """The evaluations of one run."""

    def __init__(self, run: RunDir, command: list[str], log: Callable[[str], None]) -> None:
        self._run, self._command, self._log = run, command, log
        self._process: subprocess.Popen[bytes] | None = None
        self._n_killed = 0
        self._started: set[int] = set()
        """Steps whose checkpoints existed when the latest process started."""

    def poll(self) -> bool:
        """Start and finish processes; return whether an evaluation has just been written."""
        if self._process is None:
            if set(self._run.saved_steps()) > self._started:
                self._start()
            return False
        status = self._process.poll()
        if status is None:
            return False
        self._process = None
        self._n_killed += status == -signal.SIGKILL
        if status != 0:
            self._log(f"note: the evaluation beside the training failed, see {self._log_file}; it is done later")
        return status == 0

    @property
    def is_running(self) -> bool:
        """Whether a process is running."""
        return self._process is not None

    @property
    def n_killed(self) -> int:
        """Processes that another program or the kernel has killed."""
        return self._n_killed + (self._process is not None and self._process.poll() == -signal.SIGKILL)

    def stop(self) -> None:
        """End the process; finished checkpoints are kept."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    @property
    def _log_file(self) -> Path:
        return self._run.path / "evaluation.log"

    def _start(self) -> None:
        self._started = set(self._run.saved_steps())
        with self._log_file.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our module
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_low_priority
            )


def _low_priority() -> None:
    """In the child, before it starts: of the processor, and of memory where both do not fit."""
    os.nice(_NICENESS)
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_KILL, encoding="ascii")
    terminate_with_parent()
