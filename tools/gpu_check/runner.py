"""Run each step in a process of its own, so that one that hangs, or dies, takes nothing else along.

What the steps need is imported once, here; each is a fork, which has it already. CUDA starts in the forks only.
Where a fork cannot use CUDA, because an import has started it here, each step is a fresh process, which imports
everything anew.
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

__all__ = ["Step", "run_steps"]

LOOK_S = 0.5
"""Seconds between two looks at what a step has written."""
WORTH_S = 6.0
"""Seconds below which a step is not begun."""
PATIENCE = 3
"""Times the limit of a step that a dry run has: its machine is slower, and others may use it."""


@dataclass(frozen=True)
class Step:
    """Something to measure."""

    name: str
    what: str
    """For the table."""
    limit_s: float
    run: Callable[[Setting], None]


def run_steps(steps: list[Step], report: Report, out: Path, setting: Setting, until: float) -> None:
    """Run `steps` in order until the monotonic time `until`; `report` is saved whenever something is known."""
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
    """Run `child` to its end, or to its limit; `outcome` has what it has written at any time."""
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
    """End a step's process, if it runs, and whatever it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def _child(step: Step, setting: Setting, words: Path) -> None:
    try:
        step.run(setting)
    except Exception:  # noqa: BLE001 - whatever went wrong is told in the table
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
