"""The report of an evaluation: `report.html`, its charts as PNG, and the responses in AlpacaEval's format.

    glassbox report --run-dir runs/NAME

writes them from `evaluation.json` and `evaluation/`, without a model and without the service. The page is a single
file without external assets; the charts are inline.

    alpaca_eval --model_outputs runs/NAME/alpaca_eval.json --reference_outputs runs/NAME/alpaca_eval_first.json

compares the last checkpoint with the first, with the annotator that AlpacaEval is configured with. The prompts are
those of the evaluation, not AlpacaEval's set, so the results are not comparable with its leaderboard.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from reward_client.cli.command import run_program
from reward_client.cli.options import file_path
from reward_evidence.comparison.runs import group_runs, open_runs
from reward_evidence.evaluation.evaluation import read_evaluation
from reward_evidence.evaluation.store import EvaluatedResponse, read_evaluated
from reward_evidence.report.charts import panels
from reward_evidence.report.comparison_page import summary_lines, write_comparison
from reward_evidence.report.distribution_chart import distribution_panels
from reward_evidence.report.index import write_index
from reward_evidence.report.page import render
from reward_evidence.report.plots import render as draw_panel
from reward_evidence.report.plots import write_pngs
from reward_runs.errors import EvaluationError, RunError
from reward_runs.events import read_events
from reward_runs.files import replace_text
from reward_runs.layout import RunDir, read_metrics, step_name
from reward_runs.record import RunRecord

REPORT_NAME = "report.html"

_DESCRIPTION = """\
Write report.html, plots/ and alpaca_eval.json of an evaluation again, from its evaluation.json; or compare several
evaluated runs on one page, or list the runs of a folder. No model is loaded and no request is sent.

--compare pools runs of the same recipe and settings whose seeds differ, and compares the groups: final gold,
paired by prompt, with intervals over seeds and prompts and corrected for the number of comparisons. It writes
comparison.html, comparison.json and comparison_plots/. The runs need the same sampling and gold model; where their
prompts differ, they are compared on the common ones."""

_EPILOG = """\
examples:
  glassbox report --run-dir runs/demo
  glassbox report --out results
  glassbox report --compare runs/rer-1 runs/rer-2 runs/li-1 runs/li-2 --out runs/rer-or-li
  glassbox report --compare runs/* --baseline rer --out compared
  glassbox report --index runs                  list all runs with their verdicts

docs/how-to/compare-runs.md explains the page."""


def write_report(folder: Path) -> Path:
    """Write page, charts and AlpacaEval files of the evaluation in `folder`; return the path of the page."""
    evaluation = read_evaluation(folder)
    first, last = (read_evaluated(folder, evaluation.checkpoints[i].step) for i in (0, -1))
    run = RunDir(folder) if evaluation.source == "run" else None
    metrics = read_metrics(run.metrics) if run else []
    steps = evaluation.checkpoints[0].step, evaluation.checkpoints[-1].step
    shown = panels(evaluation, metrics) | {"distributions": distribution_panels(first, last, steps)}
    sections = {name: [draw_panel(panel) for panel in found] for name, found in shown.items()}
    write_pngs(folder / "plots", sections)
    prompts = f"{evaluation.run}-{'heldout' if run else 'prompts'}"
    for name, index, responses in (("alpaca_eval.json", -1, last), ("alpaca_eval_first.json", 0, first)):
        generator = f"{evaluation.run}-step-{step_name(evaluation.checkpoints[index].step)}"
        replace_text(folder / name, model_outputs(responses, generator, prompts))
    n_steps = metrics[-1]["step"] if metrics else None
    record, events = (RunRecord.read(run).content(), read_events(run)) if run else ({}, [])
    page = render(evaluation, sections, first, last, record, n_steps, events)
    replace_text(folder / REPORT_NAME, page)
    return folder / REPORT_NAME


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


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and run the command; return the exit status."""
    return run_program("python -m reward_evidence.report", configure, run, argv)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument(
        "--run-dir",
        "--out",
        dest="folder",
        type=file_path,
        metavar="DIR",
        help="folder with evaluation.json: a run directory, or the --out folder of an evaluation; with --compare "
        "the folder to write into",
    )
    parser.add_argument(
        "--compare",
        type=file_path,
        nargs="+",
        metavar="RUN",
        help="folders with evaluations to compare, two or more",
    )
    parser.add_argument(
        "--baseline",
        metavar="GROUP",
        help="with --compare: compare every group with this one only, which needs a smaller correction "
        "(default: every pair)",
    )
    wanted.add_argument(
        "--index", type=file_path, metavar="DIR", help="folder of run directories: write its index.html"
    )


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Write the report, the comparison or the list of runs; return the exit status: 0 done, 1 failed."""
    try:
        if options.compare is None and options.baseline is not None:
            raise EvaluationError("--baseline needs --compare")
        path = _write(options)
    except RunError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    sys.stdout.write(f"{'report' if options.index is None else 'index'}: {path}\n")
    return 0


def _write(options: argparse.Namespace) -> Path:
    if options.index is not None:
        if options.compare is not None:
            raise EvaluationError("--index cannot be combined with --compare")
        return write_index(options.index)
    return write_report(options.folder) if options.compare is None else _compare(options)


def _compare(options: argparse.Namespace) -> Path:
    if len(options.compare) < 2:
        raise EvaluationError("--compare needs two runs or more; `glassbox report --run-dir DIR` reports one")
    path, comparison = write_comparison(group_runs(open_runs(options.compare)), options.folder, options.baseline)
    for line in summary_lines(comparison):
        sys.stdout.write(f"{line}\n")
    return path
