"""Paths in a run directory.

runs/NAME/
  config.json  freeze.txt  metrics.jsonl  openrlhf.log     record of the run
  data/train.jsonl  data/heldout.jsonl                     prompts for training and for evaluation
  checkpoints/000000/ …                                    Hugging Face folders; 000000 is the initial policy
  evaluation/  evaluation.json  report.html  plots/        written by the evaluation
  state/                                                   OpenRLHF's own checkpoints; deleted after the last step
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from reward_runs.files import lock_folder


def step_name(step: int) -> str:
    """Return the name of `step` in files and folders: `000012`."""
    return f"{step:06d}"


@dataclass(frozen=True)
class RunDir:
    """Paths in one run directory."""

    path: Path

    @classmethod
    def at(cls, path: str | Path) -> RunDir:
        """Return the run directory at `path`, as an absolute path: child processes may change directory."""
        return cls(Path(path).absolute())

    @property
    def name(self) -> str:
        """Name of the run, valid in a URL path."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.path.name).strip("-.") or "run"

    @property
    def config(self) -> Path:
        """The `RunRecord`: settings, recipe, service, versions."""
        return self.path / "config.json"

    @property
    def freeze(self) -> Path:
        """Versions of all installed packages."""
        return self.path / "freeze.txt"

    @property
    def metrics(self) -> Path:
        """Step metrics, one JSON object per step."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """OpenRLHF's output."""
        return self.path / "openrlhf.log"

    @property
    def train_data(self) -> Path:
        """Training prompts in OpenRLHF's format."""
        return self.path / "data" / "train.jsonl"

    @property
    def heldout_data(self) -> Path:
        """Held-out prompts for the evaluation."""
        return self.path / "data" / "heldout.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints, one Hugging Face folder per saved step."""
        return self.path / "checkpoints"

    @property
    def state(self) -> Path:
        """OpenRLHF's own checkpoints, needed to resume."""
        return self.path / "state"

    @property
    def final(self) -> Path:
        """Folder in which OpenRLHF saves the policy after the last step."""
        return self.state / "final"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the policy after `step` steps."""
        return self.checkpoints / step_name(step)

    def saved_steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in order."""
        return sorted(int(path.name) for path in self.checkpoints.glob("[0-9]*") if path.name.isdigit())

    def lock(self) -> AbstractContextManager[int]:
        """Lock the directory against other runs; see `lock_folder`."""
        return lock_folder(self.path)
