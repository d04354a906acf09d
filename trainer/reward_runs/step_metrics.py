"""Metrics of each training step, in `metrics.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reward_runs.files import replace_text

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
        self._path.unlink(missing_ok=True)
