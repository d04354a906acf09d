"""Runs the trainings of a study in child processes: one at a time, or several at once.

    PlannedRun ──▶ a free slot ──▶ `glassbox train …` (or --resume) ──▶ finished | stopped by rule | failed, why
    cancelled ───▶ SIGTERM to every child, a grace period, SIGKILL ──▶ stopped

A run is a session of processes, so Ctrl-C reaches the study only, which stops the runs in order. A failed run does
not stop the others.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reward_client.writing import OutputError, writing
from reward_evidence.report.formatting import duration
from reward_evidence.study.errors import StudyError
from reward_evidence.study.planning import TRAIN, PlannedRun, train_command
from reward_evidence.study.progress import remaining_s
from reward_evidence.study.state import StudyState, end_of

STOP_S = 90.0
"""Seconds between SIGTERM and SIGKILL: `glassbox train` saves its checkpoints and ends Ray meanwhile."""
DEVICES = "CUDA_VISIBLE_DEVICES"
_MAX_CAUSE_CHARS = 1000
_TAIL_BYTES = 20_000


@dataclass
class StudyRunner:
    """Trains the runs of one study."""

    state: StudyState
    url: str
    """Address of the reward service."""
    log: Callable[[str], None]
    """Receives one line for the user."""
    jobs: int = 1
    """Runs at the same time."""
    launcher: Sequence[str] = ()
    train: Sequence[str] = TRAIN
    """Command of a run, without its options."""
    check: Callable[[], None] = lambda: None
    """Called before each run; raises StudyError when no run can succeed, as when the service has ended."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    stop_s: float = STOP_S

    async def run(self, planned: Sequence[PlannedRun]) -> None:
        """Train the runs that have not ended. When it is cancelled, every run is stopped before it returns."""
        devices = device_slots(self.environment.get(DEVICES), self.jobs)
        ends = {run: end_of(self.state.run_dir(run)) for run in planned}
        for run, end in ends.items():
            self.state.reset(run, end)
        waiting = [run for run, end in ends.items() if end is None]
        self._planned = planned
        if done := len(planned) - len(waiting):
            self.log(f"{done} of {len(planned)} runs have ended already")
        slots: asyncio.Queue[str | None] = asyncio.Queue()
        for slot in devices:
            slots.put_nowait(slot)
        try:
            async with asyncio.TaskGroup() as tasks:
                for run in waiting:
                    tasks.create_task(self._in_slot(run, slots))
        except ExceptionGroup as group:  # the first one has stopped the other runs
            raise group.exceptions[0] from None

    async def _in_slot(self, run: PlannedRun, slots: "asyncio.Queue[str | None]") -> None:
        devices = await slots.get()
        try:
            self.check()
            await self._train(run, devices)
        finally:
            slots.put_nowait(devices)

    async def _train(self, run: PlannedRun, devices: str | None) -> None:
        folder, log = self.state.run_dir(run), self.state.log(run)
        resume = (folder / "config.json").is_file()
        command = [*self.launcher, *train_command(run, folder, self.url, resume=resume, train=self.train)]
        environment = {**self.environment, **({DEVICES: devices} if devices is not None else {})}
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
        begin = log.stat().st_size if log.exists() else 0
        self.log(f"{run.name}: {'resumed' if resume else 'started'}; its output is in {log}")
        self.state.started(run)
        started_s = time.monotonic()
        try:
            status = await self._wait(command, environment, log)
        except asyncio.CancelledError:
            self.state.ended(run, "stopped", time.monotonic() - started_s)
            self.log(f"{run.name}: stopped")
            raise
        except OutputError as exc:
            self._failed(run, time.monotonic() - started_s, str(exc))
            return
        except OSError as exc:
            self._failed(run, time.monotonic() - started_s, f"{command[0]} cannot be started: {exc.strerror}")
            return
        took_s = time.monotonic() - started_s
        end = end_of(folder) if status == 0 else None
        if end is None:
            self._failed(run, took_s, _cause(log, begin, status))
            return
        self.state.ended(run, end.status, took_s, end.rule)
        how = f"stopped by the rule {end.rule}" if end.rule else "finished"
        self.log(f"{run.name}: {how} after {duration(took_s)}; {self._progress()}")

    async def _wait(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        with writing(log):
            opened = log.open("ab")
        with opened as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
            try:
                return await process.wait()
            except asyncio.CancelledError:
                await self._stop(process)
                raise

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        """End the session of `process`; a second cancellation ends the grace period."""
        with suppress(ProcessLookupError, TimeoutError):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), self.stop_s)
            finally:
                os.killpg(process.pid, signal.SIGKILL)

    def _failed(self, run: PlannedRun, took_s: float, cause: str) -> None:
        self.state.ended(run, "failed", took_s, cause)
        self.log(f"{run.name}: failed after {duration(took_s)}: {cause}")
        self.log(self._progress())

    def _progress(self) -> str:
        states = [self.state[run] for run in self._planned]
        statuses = Counter(state.status for state in states)
        text = f"{statuses['finished']} of {len(states)} runs finished, {statuses['failed']} failed"
        if by_rule := statuses["stopped by rule"]:
            text += f", {by_rule} stopped by a rule"
        left_s = remaining_s(states, self.jobs)
        return f"{text}, about {duration(left_s)} left" if left_s else text


def device_slots(visible: str | None, jobs: int) -> list[str | None]:
    """The devices of each of `jobs` runs at the same time, from CUDA_VISIBLE_DEVICES; None: as they are.

    Raises StudyError when it lists fewer devices than runs.
    """
    if jobs == 1 or not visible:
        return [None] * jobs
    devices = [name.strip() for name in visible.split(",")]
    if len(devices) < jobs:
        raise StudyError(f"--jobs {jobs} needs {jobs} devices at least, and {DEVICES} lists {len(devices)}")
    size = len(devices) // jobs
    return [",".join(devices[index * size : (index + 1) * size]) for index in range(jobs)]


def _cause(log: Path, begin: int, status: int) -> str:
    """Why a run failed: the last line of its output that reports an error, or else the last line."""
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - _TAIL_BYTES))
        lines = [
            line.strip() for line in file.read().decode("utf-8", errors="replace").splitlines() if line.strip()
        ]
    errors = [line for line in lines if line.lower().startswith("error:") or ": error:" in line]
    last = (errors or lines or ["it wrote no output"])[-1]
    ended = f"exit status {status}" if status else "it ended without a complete evaluation"
    return f"{ended}: {last[-_MAX_CAUSE_CHARS:]}"
