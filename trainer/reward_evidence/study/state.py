"""`study.json`: what happened to each run. Whether a run has ended is read from its own directory.

OUT/study.json  comparison.html  comparison.json  service.log
OUT/logs/NAME.log     output of `glassbox train`
OUT/runs/NAME/        run directories
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from reward_evidence.evaluation.evaluation import read_evaluation
from reward_evidence.study.errors import StudyError
from reward_evidence.study.planning import PlannedRun
from reward_runs.errors import RunError
from reward_runs.events import stopped_by_rule
from reward_runs.files import replace_text
from reward_runs.layout import RunDir
from reward_runs.record import RunRecord

Status = Literal["waiting", "running", "finished", "stopped by rule", "failed", "stopped"]


class End(NamedTuple):
    """How a run ended that is not trained again."""

    status: Literal["finished", "stopped by rule"]
    rule: str | None = None
    """What the stop rule found."""


class RunState(BaseModel):
    """The latest attempt at a run."""

    model_config = ConfigDict(extra="forbid")

    status: Status = "waiting"
    group: str
    options: list[str]
    """Options of `glassbox train` and of OpenRLHF."""
    attempts: int = 0
    started_at: str | None = None
    """ISO 8601, UTC."""
    duration_s: float = 0.0
    """Seconds of all attempts together."""
    cause: str | None = None
    """Why the latest attempt failed, or which rule stopped it."""


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    runs: dict[str, RunState] = {}


class StudyState:
    """The state of the study in the folder `out`, written after each change."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._path = out / "study.json"
        self._runs = _read(self._path).runs

    def run_dir(self, run: PlannedRun) -> Path:
        """Run directory of `run`."""
        return self.out / "runs" / run.name

    def log(self, run: PlannedRun) -> Path:
        """File with the output of `run`."""
        return self.out / "logs" / f"{run.name}.log"

    def plan(self, runs: Sequence[PlannedRun]) -> None:
        """Add new runs; raise StudyError when a run that has started was planned with other options."""
        for run in runs:
            options = [*run.options, *run.openrlhf_options]
            known = self._runs.get(run.name)
            if known is not None and known.options != options and self.run_dir(run).exists():
                raise StudyError(
                    f"{run.name} was started with other options in {self.out}: "
                    f"{_changed(known.options, options)}. Choose another --out, or remove {self.run_dir(run)} to "
                    "train it again"
                )
            if known is None or known.options != options:
                self._runs[run.name] = RunState(group=run.group, options=options)
            self._runs[run.name].group = run.group

    def __getitem__(self, run: PlannedRun) -> RunState:
        return self._runs[run.name]

    def reset(self, run: PlannedRun, end: End | None) -> None:
        """Set the status that `run` has before an attempt: how it ended, or waiting."""
        state = self[run]
        if end is None:
            state.status = "waiting"
        else:
            state.status, state.cause = end
        self._write()

    def started(self, run: PlannedRun) -> None:
        """Record a new attempt."""
        state = self[run]
        state.status, state.cause, state.attempts = "running", None, state.attempts + 1
        state.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._write()

    def ended(self, run: PlannedRun, status: Status, duration_s: float, cause: str | None = None) -> None:
        """Record the end of an attempt."""
        state = self[run]
        state.status, state.cause = status, cause
        state.duration_s = round(state.duration_s + duration_s, 1)
        self._write()

    def _write(self) -> None:
        replace_text(self._path, _Content(runs=self._runs).model_dump_json(indent=2) + "\n")


def end_of(run_dir: Path) -> End | None:
    """How the run ended: after its last step or by a stop rule, and with all of it evaluated; else None."""
    run = RunDir(run_dir)
    try:
        evaluated = read_evaluation(run_dir).checkpoints[-1].step
        if evaluated == RunRecord.read(run).steps:
            return End("finished")
    except RunError:
        return None
    is_evaluated = evaluated > 0 and evaluated == max(run.saved_steps(), default=None)
    stop = stopped_by_rule(run) if is_evaluated else None
    return End("stopped by rule", stop.message) if stop else None


def _read(path: Path) -> _Content:
    try:
        return _Content.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _Content()
    except ValidationError as exc:
        raise StudyError(
            f"{path} was written by another version of glassbox-reward: choose another --out"
        ) from exc


def _changed(before: list[str], now: list[str]) -> str:
    return f"{' '.join(before)} then, {' '.join(now)} now"
