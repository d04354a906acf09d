"""The report of one run: `report.html`, its figures as PNG, and the responses in AlpacaEval's format.

    python -m reward_evidence.report --run-dir runs/NAME

draws them again from `evaluation.json` and `evaluation/`, without a model and without the service. The page is one
file: no script, no outside asset, figures inline.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reward_client.cli.command import new_parser
from reward_evidence.evaluation.evaluation import Evaluation, read_evaluation
from reward_evidence.evaluation.store import EvaluatedResponse, EvaluationError, find_finished, step_name
from reward_evidence.report import formatting
from reward_evidence.report.alpaca_eval import model_outputs
from reward_evidence.report.charts import Panel, panels
from reward_evidence.report.examples import choose_excerpts
from reward_evidence.report.plots import Drawing
from reward_evidence.report.plots import render as draw_panel
from reward_runs.errors import TrainerError
from reward_runs.layout import replace_text
from reward_runs.step_metrics import read_metrics

__all__ = ["main", "render", "write_report"]

REPORT_NAME = "report.html"
_TEMPLATE = "report.html.j2"
_LONGEST_VALUE = 2000
"""Characters of one setting that the page shows."""


def write_report(run: Path) -> Path:
    """Write the page, the plots and the AlpacaEval files of the evaluated `run`; return the path of the page."""
    evaluation = read_evaluation(run)
    first, last = (_responses(run, evaluation.checkpoints[i].step) for i in (0, -1))
    sections = _draw(panels(evaluation, read_metrics(run / "metrics.jsonl")))
    _write_plots(run / "plots", sections)
    _write_alpaca_eval(run, evaluation, first, last)
    page = render(evaluation, sections, first, last, json.loads((run / "config.json").read_text(encoding="utf-8")))
    replace_text(run / REPORT_NAME, page)
    return run / REPORT_NAME


def render(
    evaluation: Evaluation,
    sections: Mapping[str, Sequence[Drawing]],
    first: Sequence[EvaluatedResponse],
    last: Sequence[EvaluatedResponse],
    config: Mapping[str, Any],
) -> str:
    """Return the page; every text that comes from outside is escaped."""
    environment = Environment(
        loader=PackageLoader("reward_evidence", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": formatting.plain,
        "signed": formatting.signed,
        "percent": formatting.percent,
        "estimate": _estimate,
        "label": _label,
        "tidy": _tidy,
        "data_address": _data_address,
    }
    several = len(evaluation.checkpoints) > 1
    return environment.get_template(_TEMPLATE).render(
        evaluation=evaluation,
        interval=formatting.interval,
        decimals_for=formatting.decimals_for,
        sections=sections,
        excerpt_groups=choose_excerpts(first, last) if several else [],
        tables=_tables(evaluation, config),
    )


def _responses(run: Path, step: int) -> list[EvaluatedResponse]:
    finished = find_finished(run / "evaluation", step)
    if finished is None:
        raise EvaluationError(
            f"the responses of step {step} in {run / 'evaluation'} are missing or changed: evaluate the run again"
        )
    return finished.responses


def _draw(sections: Mapping[str, Sequence[Panel]]) -> dict[str, list[Drawing]]:
    return {name: [draw_panel(panel) for panel in found] for name, found in sections.items()}


def _write_plots(folder: Path, sections: Mapping[str, Sequence[Drawing]]) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for drawing in (drawing for found in sections.values() for drawing in found):
        (folder / f"{drawing.panel.name}.png").write_bytes(drawing.png)


def _write_alpaca_eval(
    run: Path,
    evaluation: Evaluation,
    first: Sequence[EvaluatedResponse],
    last: Sequence[EvaluatedResponse],
) -> None:
    ends = {"alpaca_eval.json": (-1, last), "alpaca_eval_first.json": (0, first)}
    for name, (index, responses) in ends.items():
        generator = f"{evaluation.run}-step-{step_name(evaluation.checkpoints[index].step)}"
        replace_text(run / name, model_outputs(responses, generator, f"{evaluation.run}-heldout"))


def _data_address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _estimate(estimate: Any, decimals: int | None = None) -> str:
    """`0.41 ± 0.05`: mean and half the 95 % interval."""
    if estimate is None:
        return "–"
    shown = formatting.decimals_for(estimate.low, estimate.high) if decimals is None else decimals
    mean = formatting.plain(estimate.mean, shown)
    return mean if estimate.low is None else f"{mean} ± {formatting.plain(estimate.high - estimate.mean, shown)}"


def _label(name: str) -> str:
    """`open_ended` → `open-ended`."""
    return name.replace("_", "-")


def _tidy(sentence: str) -> str:
    """Keep a number and its percent sign on one line."""
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%")


def _tables(evaluation: Evaluation, config: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Titles, and (name, value) rows, of everything the figures depend on."""
    parts: dict[str, Mapping[str, Any]] = {
        "How the figures are made": evaluation.method,
        "Evaluation": {"evaluated at": evaluation.created_at, **evaluation.settings},
        "Reward service": evaluation.service,
        "Training run (config.json)": {name: value for name, value in config.items() if name != "service"},
        "Versions of the evaluation": evaluation.versions,
        "Hashes (SHA-256)": evaluation.hashes,
    }
    return {title: _flat(part) for title, part in parts.items() if part}


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [row for key, part in value.items() for row in _flat(part, f"{name}.{key}" if name else str(key))]
    text = " ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
    return [(name, text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + " …")]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and run the command; return the exit status."""
    parser = new_parser("python -m reward_evidence.report")
    configure(parser)
    return run(parser.parse_args(argv))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description = (
        "Write report.html, plots/ and alpaca_eval.json of an evaluated run again, from its evaluation.json. "
        "No model is loaded and no request is sent."
    )
    parser.epilog = "example:\n  glassbox report --run-dir runs/demo"
    parser.add_argument("--run-dir", type=Path, required=True, help="folder of the training run")


def run(options: argparse.Namespace) -> int:
    """Write the report; return the exit status: 0 done, 1 failed."""
    try:
        path = write_report(options.run_dir)
    except TrainerError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    sys.stdout.write(f"report: {path}\n")
    return 0
