"""A finished or interrupted run, read from its directory: record, held-out prompts, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reward_runs.checkpoints import Checkpoint, split_complete
from reward_runs.errors import RunDirectoryError
from reward_runs.layout import RunDir
from reward_runs.prompts import Columns, Prompt, load_prompts
from reward_runs.record import RunRecord


@dataclass(frozen=True)
class RunReader:
    """`runs/NAME/`, checked when it is opened."""

    run: RunDir
    record: RunRecord
    prompts: tuple[Prompt, ...]
    """Held-out prompts."""
    checkpoints: tuple[Checkpoint, ...]
    """Complete checkpoints, by step."""
    incomplete: tuple[Checkpoint, ...]
    """Checkpoints that were not written completely."""

    @classmethod
    def open(cls, path: Path) -> RunReader:
        """Read the run at `path`; raise RunDirectoryError or DataError when a part is missing or invalid."""
        if not path.is_dir():
            raise RunDirectoryError(
                f"the run directory {path} does not exist: name the folder of a training run with --run-dir"
            )
        run = RunDir.at(path)
        record = RunRecord.read(run)
        found = [Checkpoint(step, run.checkpoint(step)) for step in run.saved_steps()]
        complete, incomplete = split_complete(found)
        if not complete:
            raise RunDirectoryError(
                f"{run.checkpoints} contains no complete checkpoint: wait until the run has saved one"
            )
        if not run.heldout_data.is_file():
            raise RunDirectoryError(
                f"the held-out prompts {run.heldout_data} are missing: the trainer writes them when a run starts"
            )
        prompts = tuple(load_prompts(str(run.heldout_data), Columns()))
        return cls(run, record, prompts, tuple(complete), tuple(incomplete))
