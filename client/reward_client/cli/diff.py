"""`glassbox diff`: compare how two recipes order the same responses."""

import argparse
from collections.abc import Sequence

from reward_client.cli.options import (
    add_scoring,
    add_url,
    bounded_number,
    check_outputs,
    connect,
    file_path,
    note,
    positive_int,
    progress_line,
    reporting_errors,
    write_text,
)
from reward_client.diff.build import build
from reward_client.diff.judged import Judge, Judged
from reward_client.diff.page import render as render_page
from reward_client.diff.recipe import recipe_choice
from reward_client.diff.report import Report
from reward_client.diff.table import render as render_table
from reward_client.loaded import GOLD, loaded_info
from reward_client.rows import FileError
from reward_client.score_file import read_items

MAX_MOVERS = 100

_EPILOG = """\
Both recipes score the same rows: prompt, response, and optionally reference, query_type, id, as for `glassbox
score`, with several responses a prompt. Training follows the order of the responses to one prompt, so that is what
is compared: Kendall's τ-b, the share of pairs that change their order, the share of prompts whose best response
changes; which responses move most, and which feature moves them, from the exact parts of both rewards; and, if the
service has a gold model, how well each recipe agrees with it. Intervals are over prompts.

A recipe is the name of one of the service's, or a file (.json, or .yaml with PyYAML) with parameters that change
one: {"recipe": "rer", "max_response_tokens": 128}; without "recipe" they change the service's default recipe.

Exit status: 0; 1 for a failure, a row without rewards, or an agreement below --require-agreement.

examples:
  glassbox diff --recipe rer --recipe glassbox samples.jsonl --html diff.html
  glassbox diff --recipe glassbox --recipe new.yaml samples.jsonl --require-agreement 0.9
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Compare how two recipes order the same responses.", _EPILOG
    parser.add_argument("source", metavar="IN", type=file_path, help="file of items, or -")
    parser.add_argument(
        "--recipe",
        action="append",
        required=True,
        metavar="NAME|FILE",
        help="given twice: A, then B; a recipe of the service, or a file with parameters",
    )
    parser.add_argument("--no-gold", action="store_true", help="do not score with the service's gold model")
    parser.add_argument(
        "--require-agreement",
        type=bounded_number(-1, 1),
        metavar="TAU",
        help="exit status 1 if the mean τ-b within prompts is lower, for instance 0.9",
    )
    parser.add_argument("--json", type=file_path, metavar="OUT", help="write the report as JSON")
    parser.add_argument(
        "--html", type=file_path, metavar="OUT", help="write the report as one HTML page, with charts"
    )
    parser.add_argument(
        "--movers",
        type=positive_int,
        default=20,
        metavar="N",
        help=f"responses that move most, in the report: at most {MAX_MOVERS} (default: 20)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the intervals (default: 0)")
    add_scoring(parser)
    add_url(parser)


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Compare, print the figures, write the files; return the exit status."""
    with reporting_errors("diff"):
        check_outputs(arguments, arguments.source)
        report = _report(arguments)
        print(render_table(report))
        write_text(arguments.json, report.model_dump_json(indent=1) + "\n")
        write_text(arguments.html, render_page(report))
    unmet = report.requirement is not None and not report.requirement.met
    return 1 if unmet or report.n_errors else 0


def _report(arguments: argparse.Namespace) -> Report:
    if len(arguments.recipe) != 2:
        raise FileError(f"--recipe is needed twice, for A and for B; it was given {len(arguments.recipe)} time(s)")
    if arguments.movers > MAX_MOVERS:
        raise FileError(f"--movers {arguments.movers} is more than {MAX_MOVERS}: the page has their texts")
    a, b = map(recipe_choice, arguments.recipe)
    rows, wrong = read_items(arguments.source, arguments.limit, keep_going=arguments.keep_going)
    judged: list[Judged] = []
    with connect(arguments.url, arguments.wait) as client:
        gold = (
            not arguments.no_gold
            and loaded_info(client, note, kinds=[GOLD], without_gold="--no-gold").gold is not None
        )
        judge = Judge(client, arguments.source, a, b, query_type_default=arguments.query_type_default)
        options = {"batch": arguments.batch, "keep_going": arguments.keep_going, "gold": gold}
        with progress_line() as show:
            for progress, found in judge.judged(rows, **options):
                show(progress)
                judged += found
                wrong += progress.wrong
        return build(
            judge,
            (a, b),
            judged,
            wrong,
            source=str(arguments.source),
            url=client.urls[0],
            seed=arguments.seed,
            n_movers=arguments.movers,
            required=arguments.require_agreement,
        )
