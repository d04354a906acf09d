"""A run directory: its paths, and the metrics of its steps.

runs/NAME/
  config.json  freeze.txt  metrics.jsonl  events.jsonl     record of the run
  openrlhf.log  evaluation.log                             output of OpenRLHF, of evaluations beside the training
  data/train.jsonl  data/heldout.jsonl                     prompts for training and for evaluation
  checkpoints/000000/ …                                    Hugging Face folders; 000000 is the initial policy
  evaluation/  evaluation.json  report.html  plots/        written by the evaluation
  state/                                                   OpenRLHF's own checkpoints; deleted after the last step
"""

import json
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from reward_client.writing import writing
from reward_runs.files import lock_folder, replace_text


def step_name(step: int) -> str:
    """Return the name of `step` in files and folders: `000012`."""
    return f"{step:06d}"


class RunDir:
    """Paths in one run directory."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        """Absolute, because child processes may change directory."""
        self.name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.path.name).strip("-.") or "run"
        """Name of the run, valid in a URL path."""
        self.config = self.path / "config.json"
        """The `RunRecord`: settings, recipe, service, versions."""
        self.freeze = self.path / "freeze.txt"
        """Versions of all installed packages."""
        self.metrics = self.path / "metrics.jsonl"
        """Step metrics, one JSON object per step."""
        self.log = self.path / "openrlhf.log"
        self.events = self.path / "events.jsonl"
        """What was noticed while the run trained; see `reward_runs.events`."""
        self.train_data = self.path / "data" / "train.jsonl"
        """Training prompts in OpenRLHF's format."""
        self.heldout_data = self.path / "data" / "heldout.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        """Folder of checkpoints, one Hugging Face folder per saved step."""
        self.state = self.path / "state"
        """OpenRLHF's own checkpoints, needed to resume."""
        self.final = self.state / "final"
        """Folder in which OpenRLHF saves the policy after the last step."""

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the policy after `step` steps."""
        return self.checkpoints / step_name(step)

    def saved_steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in order."""
        return sorted(int(path.name) for path in self.checkpoints.glob("[0-9]*") if path.name.isdigit())

    def lock(self) -> AbstractContextManager[int]:
        """Lock the directory against other runs; see `lock_folder`."""
        return lock_folder(self.path)


Step = dict[str, Any]
"""One line of metrics.jsonl: `step`, `time_s` (seconds since the start), and finite numbers or null."""


def read_metrics(path: Path) -> list[Step]:
    """Read `metrics.jsonl`; an empty list when the file does not exist."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class StepMetrics:
    """The steps of a run, written to disk after each; a resumed run continues the file without duplicates."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.steps = read_metrics(path)

    def add(self, step: Step) -> None:
        """Append `step`; it replaces steps of an earlier attempt with the same or a higher number."""
        self.steps = [*(known for known in self.steps if known["step"] < step["step"]), step]
        replace_text(self._path, "".join(json.dumps(known) + "\n" for known in self.steps))

    def clear(self) -> None:
        """Delete the steps of an earlier attempt that is not resumed."""
        self.steps = []
        with writing(self._path):
            self._path.unlink(missing_ok=True)
