"""`runs/index.html`: the runs in a folder with their verdicts, the newest first.

    glassbox report --index runs

The trainer writes it after each evaluation. A broken run has a row that says what is wrong with it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reward_evidence.evaluation.evaluation import FILE_NAME, Evaluation, read_evaluation
from reward_evidence.report.templating import render
from reward_runs.errors import EvaluationError, RunDirectoryError
from reward_runs.events import stopped_by_rule
from reward_runs.files import replace_text
from reward_runs.layout import RunDir, read_metrics
from reward_runs.record import RunRecord

INDEX_NAME = "index.html"
MAX_RUNS = 500
_MARK = '<meta name="generator" content="glassbox report --index">'
"""In the pages of this module; another index.html is never replaced."""


@dataclass(frozen=True)
class IndexRow:
    """One run."""

    name: str
    link: str | None
    """Of the report, relative to the page."""
    record: RunRecord | None
    evaluation: Evaluation | None
    n_steps: int
    """Training steps that are done."""
    stopped: str | None
    """Reason of the stop rule that ended it."""
    problem: str | None
    """Why record or evaluation cannot be read."""


def index_rows(folder: Path) -> list[IndexRow]:
    """Read the runs in `folder`, the newest first, at most MAX_RUNS."""
    found = [path.parent for path in folder.glob("*/config.json")]
    newest = sorted(found, key=lambda path: -(path / "config.json").stat().st_mtime)
    return [_row(path) for path in newest[:MAX_RUNS]]


def write_index(folder: Path) -> Path:
    """Write the page; raise RunDirectoryError for a folder without runs, or with another index.html."""
    path = folder / INDEX_NAME
    rows = index_rows(folder)
    if not rows:
        raise RunDirectoryError(f"{folder} contains no runs: name the folder that contains run directories")
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise RunDirectoryError(f"{path} was not written by this command: move it away first")
    page = render("index.html.j2", {}, folder=folder.resolve().name, rows=rows)
    replace_text(path, page.replace("<head>", f"<head>\n{_MARK}", 1))
    return path


def update_index(folder: Path) -> None:
    """Write the page after an evaluation, in a folder named `runs` or one that has such a page."""
    path = folder / INDEX_NAME
    ours = path.exists() and _MARK in path.read_text(encoding="utf-8", errors="replace")
    if ours or (folder.name == "runs" and not path.exists()):
        write_index(folder)


def _row(path: Path) -> IndexRow:
    run = RunDir(path)
    problem: str | None = None
    record = evaluation = None
    n_steps = 0
    try:
        record = RunRecord.read(run)
        evaluation = read_evaluation(path) if (path / FILE_NAME).is_file() else None
        n_steps = _last_step(run)
    except (RunDirectoryError, EvaluationError, OSError) as exc:
        problem = str(exc)
    stop = stopped_by_rule(run)
    return IndexRow(
        name=path.name,
        link=f"{quote(path.name)}/report.html" if (path / "report.html").is_file() else None,
        record=record,
        evaluation=evaluation,
        n_steps=n_steps,
        stopped=stop.message if stop else None,
        problem=problem,
    )


def _last_step(run: RunDir) -> int:
    try:
        steps: list[dict[str, Any]] = read_metrics(run.metrics)
        return int(steps[-1]["step"]) if steps else 0
    except (ValueError, LookupError, TypeError) as exc:
        raise RunDirectoryError(f"{run.metrics} cannot be read: {type(exc).__name__}: {exc}") from exc
