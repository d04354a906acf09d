"""Run each step in its own process, so that a step that hangs or crashes does not affect the others.

The imports of the steps are done once in this process, and each step is a fork of it. CUDA starts only in the
forks. Where a fork cannot use CUDA, because an import has started it here, each step is a new process that imports
everything again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tools.gpu_check.figures import Figures, Outcome, Report
from tools.gpu_check.setting import Setting

LOOK_S = 0.5
"""Interval at which the figures of a step are read, in seconds."""
WORTH_S = 6.0
"""Seconds below which a step is not begun."""
PATIENCE = 3
"""Times the limit of a step that a dry run has: its machine is slower, and others may use it."""


@dataclass(frozen=True)
class Step:
    """One measurement."""

    name: str
    what: str
    """Description for the table."""
    limit_s: float
    run: Callable[[Setting], None]


def run_steps(steps: list[Step], report: Report, out: Path, setting: Setting, until: float) -> None:
    """Run `steps` in order until the monotonic time `until`; `report` is saved after every change."""
    outcomes = {outcome.name: outcome for outcome in report.steps}
    method = "fork" if setting.device != "cuda" or _fork_has_cuda() else "spawn"
    report.notes.append(f"each step is a process of its own, by {method}")
    for step in steps:
        outcome = outcomes[step.name]
        left = until - time.monotonic()
        if left < WORTH_S:
            outcome.reason = "the time for all steps was over"
        else:
            written, words = (setting.scratch / f"{step.name}.{kind}" for kind in ("jsonl", "txt"))
            mine = Setting(setting.device, setting.small, setting.scratch, Figures(written))
            child = multiprocessing.get_context(method).Process(target=_child, args=(step, mine, words))  # type: ignore[attr-defined]
            _watch(
                child,
                min(step.limit_s * setting.size(1, PATIENCE), left),
                outcome,
                (written, words),
                lambda: report.save(out),
            )
        report.save(out)
        print(f"{step.name}: {outcome.status}, {outcome.seconds:.1f} s", flush=True)


def _watch(
    child: Any, limit_s: float, outcome: Outcome, files: tuple[Path, Path], save: Callable[[], None]
) -> None:
    """Run `child` to its end or its time limit; `outcome` always has the figures written so far."""
    written, words = files
    started = time.monotonic()
    child.start()
    outcome.status, outcome.reason = "timed out", f"it did not end in {limit_s:.0f} s"
    while child.exitcode is None and (taken := time.monotonic() - started) < limit_s:
        outcome.figures, outcome.seconds = Figures.read(written), taken
        save()
        child.join(min(LOOK_S, limit_s - taken))
    ended = child.exitcode is not None
    _end(child.pid)
    child.join(10)
    outcome.figures, outcome.seconds = Figures.read(written), time.monotonic() - started
    if ended:
        outcome.status = "ok" if child.exitcode == 0 else "failed"
        outcome.reason = "" if child.exitcode == 0 else f"its process ended with {child.exitcode}"
        if words.is_file():
            outcome.reason = words.read_text(encoding="utf-8")


def _end(pid: int | None) -> None:
    """Stop a step's process and its children."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def _child(step: Step, setting: Setting, words: Path) -> None:
    try:
        step.run(setting)
    except Exception:  # noqa: BLE001 - the table reports every failure
        words.write_text(traceback.format_exc()[-3000:], encoding="utf-8")
        sys.exit(1)
    if setting.figures.broken:
        words.write_text(f"out of their bars: {', '.join(setting.figures.broken)}", encoding="utf-8")
        sys.exit(1)


def _fork_has_cuda() -> bool:
    child = multiprocessing.get_context("fork").Process(target=_use_cuda)
    child.start()
    child.join(60)
    _end(child.pid)
    child.join(10)
    return child.exitcode == 0


def _use_cuda() -> None:
    import torch

    torch.zeros(1, device="cuda")
