"""The report of an evaluation: `report.html`, its charts as PNG, and the responses in AlpacaEval's format.

    glassbox report --run-dir runs/NAME

writes them from `evaluation.json` and `evaluation/`, without a model and without the service. The page is a single
file without scripts and external assets; the charts are inline.

    alpaca_eval --model_outputs runs/NAME/alpaca_eval.json --reference_outputs runs/NAME/alpaca_eval_first.json

compares the last checkpoint with the first, with the annotator that AlpacaEval is configured with. The prompts are
those of the evaluation, not AlpacaEval's set, so the results are not comparable with its leaderboard.
"""

import argparse
import base64
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reward_client.cli.command import run_program
from reward_evidence.evaluation.evaluation import Evaluation, read_evaluation
from reward_evidence.evaluation.store import EvaluatedResponse, find_evaluated
from reward_evidence.report import formatting
from reward_evidence.report.charts import panels
from reward_evidence.report.examples import choose_examples
from reward_evidence.report.plots import Drawing
from reward_evidence.report.plots import render as draw_panel
from reward_evidence.statistics.assessment import factor_noun
from reward_runs.errors import EvaluationError, RunError
from reward_runs.files import replace_text
from reward_runs.layout import RunDir, read_metrics, step_name
from reward_runs.record import RunRecord

REPORT_NAME = "report.html"
_TEMPLATE = "report.html.j2"
_MAX_VALUE_CHARS = 2000
"""Maximum length of a setting on the page."""


def write_report(folder: Path) -> Path:
    """Write page, charts and AlpacaEval files of the evaluation in `folder`; return the path of the page."""
    evaluation = read_evaluation(folder)
    first, last = (_responses(folder, evaluation.checkpoints[i].step) for i in (0, -1))
    run = RunDir(folder) if evaluation.source == "run" else None
    shown = panels(evaluation, read_metrics(run.metrics) if run else [])
    sections = {name: [draw_panel(panel) for panel in found] for name, found in shown.items()}
    _write_plots(folder / "plots", sections)
    prompts = f"{evaluation.run}-{'heldout' if run else 'prompts'}"
    for name, index, responses in (("alpaca_eval.json", -1, last), ("alpaca_eval_first.json", 0, first)):
        generator = f"{evaluation.run}-step-{step_name(evaluation.checkpoints[index].step)}"
        replace_text(folder / name, model_outputs(responses, generator, prompts))
    page = render(evaluation, sections, first, last, RunRecord.read(run).content() if run else {})
    replace_text(folder / REPORT_NAME, page)
    return folder / REPORT_NAME


def render(
    evaluation: Evaluation,
    sections: Mapping[str, Sequence[Drawing]],
    first: Sequence[EvaluatedResponse],
    last: Sequence[EvaluatedResponse],
    record: Mapping[str, Any],
) -> str:
    """Return the page; `record` is the content of the run's record. All texts are escaped."""
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
        "factor": lambda name: factor_noun(name, {f.name: f.label for f in evaluation.features}).capitalize(),
        "label": lambda name: name.replace("_", "-"),  # open-ended for open_ended
        "tidy": lambda sentence: sentence.replace(" %", "\N{NO-BREAK SPACE}%"),  # in one line with its number
        "data_url": lambda svg: f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}",
    }
    several = len(evaluation.checkpoints) > 1
    return environment.get_template(_TEMPLATE).render(
        evaluation=evaluation,
        interval=formatting.interval,
        decimals_for=formatting.decimals_for,
        sections=sections,
        drivers=evaluation.trend.drivers,
        example_groups=choose_examples(first, last) if several else [],
        tables=_tables(evaluation, record),
    )


def _responses(folder: Path, step: int) -> list[EvaluatedResponse]:
    evaluated = find_evaluated(folder / "evaluation", step)
    if evaluated is None:
        raise EvaluationError(
            f"the responses of step {step} in {folder / 'evaluation'} are missing or were changed: evaluate again"
        )
    return evaluated.responses


def _write_plots(folder: Path, sections: Mapping[str, Sequence[Drawing]]) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for drawing in (drawing for found in sections.values() for drawing in found):
        (folder / f"{drawing.panel.name}.png").write_bytes(drawing.png)


def model_outputs(responses: Sequence[EvaluatedResponse], generator: str, dataset: str) -> str:
    """Return responses in AlpacaEval's `model_outputs` format: the first sample of each prompt, as it uses one.

    Args:
        responses: the responses of one checkpoint.
        generator: name of the model, for instance `RUN-step-000008`.
        dataset: origin of the prompts.
    """
    rows = [
        {"instruction": r.prompt, "output": r.response, "generator": generator, "dataset": dataset}
        for r in responses
        if r.sample == 0
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _estimate(estimate: Any, decimals: int | None = None) -> str:
    """Return `0.41 ± 0.05`: mean and half of the 95 % interval."""
    if estimate is None:
        return "–"
    shown = formatting.decimals_for(estimate.low, estimate.high) if decimals is None else decimals
    mean = formatting.plain(estimate.mean, shown)
    return mean if estimate.low is None else f"{mean} ± {formatting.plain(estimate.high - estimate.mean, shown)}"


def _tables(evaluation: Evaluation, record: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return titles and (name, value) rows of everything that the figures depend on."""
    parts: dict[str, Mapping[str, Any]] = {
        "Method": evaluation.method,
        "Evaluation": {"evaluated at": evaluation.created_at, **evaluation.settings},
        "Reward service": evaluation.service,
        "Training run (config.json)": {name: value for name, value in record.items() if name != "service"},
        "Versions (evaluation)": evaluation.versions,
        "Hashes (SHA-256)": evaluation.hashes,
    }
    return {title: _flat(part) for title, part in parts.items() if part}


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [row for key, part in value.items() for row in _flat(part, f"{name}.{key}" if name else str(key))]
    text = " ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
    return [(name, text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + " …")]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and run the command; return the exit status."""
    return run_program("python -m reward_evidence.report", configure, run, argv)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description = (
        "Write report.html, plots/ and alpaca_eval.json of an evaluation again, from its evaluation.json.\n"
        "No model is loaded and no request is sent."
    )
    parser.epilog = "examples:\n  glassbox report --run-dir runs/demo\n  glassbox report --out results"
    parser.add_argument(
        "--run-dir",
        "--out",
        dest="folder",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with evaluation.json: a run directory, or the --out folder of an evaluation",
    )


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Write the report; return the exit status: 0 done, 1 failed."""
    try:
        path = write_report(options.folder)
    except RunError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    sys.stdout.write(f"report: {path}\n")
    return 0
