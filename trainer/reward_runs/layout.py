"""The folder of a run: where everything lies, who may write there, and how files are replaced.

runs/NAME/
  config.json  freeze.txt  metrics.jsonl  openrlhf.log     about the run
  data/train.jsonl  data/heldout.jsonl                     what it trains on, and is judged on
  checkpoints/000000/ …                                    Hugging Face folders; 000000 is before training
  evaluation/  evaluation.json  report.html                written by the evaluation
  state/                                                   OpenRLHF's own, for resuming; gone when finished
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_runs.errors import PreflightError

__all__ = ["RunDir", "replace_text"]


def replace_text(path: Path, text: str) -> None:
    """Write `path` so that a reader sees the old content or the new, never a part."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


@dataclass(frozen=True)
class RunDir:
    """Paths inside one run directory."""

    path: Path

    @classmethod
    def at(cls, path: str | Path) -> RunDir:
        """Return the run directory at `path`, made absolute: child processes have their own working directory."""
        return cls(Path(path).absolute())

    @property
    def name(self) -> str:
        """Name of the run, fit for a URL path."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.path.name).strip("-.") or "run"

    @property
    def config(self) -> Path:
        """Every setting of the run, and what it ran with."""
        return self.path / "config.json"

    @property
    def freeze(self) -> Path:
        """Versions of all installed packages."""
        return self.path / "freeze.txt"

    @property
    def metrics(self) -> Path:
        """One JSON object a step."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """Everything OpenRLHF printed."""
        return self.path / "openrlhf.log"

    @property
    def train_data(self) -> Path:
        """What OpenRLHF reads."""
        return self.path / "data" / "train.jsonl"

    @property
    def heldout_data(self) -> Path:
        """What the evaluation reads."""
        return self.path / "data" / "heldout.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """One Hugging Face folder a saved step."""
        return self.path / "checkpoints"

    @property
    def state(self) -> Path:
        """OpenRLHF's own checkpoints, for resuming."""
        return self.path / "state"

    @property
    def final(self) -> Path:
        """Where OpenRLHF saves the policy after the last step."""
        return self.state / "final"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the policy after `step` steps."""
        return self.checkpoints / f"{step:06d}"

    def saved_steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in order."""
        return sorted(int(path.name) for path in self.checkpoints.glob("[0-9]*") if path.name.isdigit())

    def read_config(self) -> dict[str, Any]:
        """Return `config.json`; raise PreflightError when there is none to resume from."""
        try:
            config: dict[str, Any] = json.loads(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError as exc:
            raise PreflightError(f"{self.path} holds no run to resume: config.json is missing") from exc
        return config

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the directory against other runs; yield the lock's file descriptor, which a child may inherit.

        The lock lasts as long as any process holds the descriptor, and the kernel drops it with the last one, so a
        killed run leaves nothing behind.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise PreflightError(
                    f"{self.path} is in use by process {holder}: wait for it, or give another --run-dir"
                ) from exc
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield file.fileno()
