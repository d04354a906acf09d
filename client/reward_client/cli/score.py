"""`glassbox score`: score a file of responses through the service."""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from reward_client.cli.datasets import dataset_name
from reward_client.cli.options import (
    add_recipe_overrides,
    add_scoring,
    add_url,
    connect,
    file_path,
    given_text,
    progress_line,
    reporting_errors,
)
from reward_client.rows import FileError
from reward_client.score_file import check_not_input, score_file
from reward_client.score_output import is_table, lines_file, write_table
from reward_client.score_summary import Summary
from reward_client.wire import DatasetMiss

_EPILOG = """\
Each row of IN is one item of POST /score: prompt, response, and optionally reference, query_type, id. IN may be
.jsonl (one JSON object a line), .json (a list of objects), .csv, .parquet, or - (JSON lines on standard input).

Each line of OUT is the input row with two more fields: "result" (reward, features, query type, gold reward; with
--explain also the attribution) and "scored_by" (recipe with its hash, and models). OUT.csv and OUT.parquet are
tables of the input's columns, reward, gold reward, query type, flags and features. A run that was stopped
continues at the end of OUT; --overwrite starts again. Exit status: 0 every row has a reward, 1 otherwise.

examples:
  glassbox score rollouts.jsonl scored.jsonl --url http://127.0.0.1:8000 --recipe rer --gold
  glassbox score rollouts.csv scored.csv --keep-going
  glassbox score answers.jsonl scored.jsonl --dataset gsm8k --dataset-miss open_ended
  head -n 20 rollouts.jsonl | glassbox score - - | jq .result.reward
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Score the responses in a file.", _EPILOG
    parser.add_argument("source", metavar="IN", type=file_path, help="file of items, or -")
    parser.add_argument("target", metavar="OUT", type=file_path, help="file to write, or -")
    parser.add_argument(
        "--recipe", type=given_text, help="one of the service's recipes (default: the service's default)"
    )
    parser.add_argument("--gold", action="store_true", help="also score with the gold model")
    parser.add_argument("--explain", action="store_true", help="also write the part of each factor of the reward")
    add_scoring(parser)
    _add_dataset(parser.add_argument_group("references that the service keeps"))
    add_recipe_overrides(parser.add_argument_group("recipe"))
    parser.add_argument("--overwrite", action="store_true", help="replace OUT instead of continuing at its end")
    add_url(parser)


def _add_dataset(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dataset",
        type=dataset_name,
        metavar="NAME",
        help="rows without a reference get that of their prompt in this data set (glassbox datasets)",
    )
    group.add_argument(
        "--dataset-miss",
        choices=get_args(DatasetMiss),
        help="what becomes of a row whose prompt is not in it: fail (default), or score it as open-ended",
    )


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Score the file, showing progress; return the exit status."""
    options = dict(vars(arguments))
    source, target, urls, wait_s = (options.pop(name) for name in ("source", "target", "url", "wait"))
    summary = Summary()
    with reporting_errors("score"):
        if options["dataset_miss"] and not options["dataset"]:
            raise FileError("--dataset-miss needs --dataset NAME")
        lines = lines_file(target)
        check_not_input(source, target)
        if is_table(target) and target.exists() and not options["overwrite"]:
            raise FileError(f"{target} exists; choose another output file, or --overwrite")
        with connect(urls, wait_s) as client, progress_line() as show:
            for progress in score_file(client, source, lines, as_table=is_table(target), **options):
                summary.add(progress)
                show(progress)
        if is_table(target):
            write_table(lines, target)
    print(f"{summary}\nscored into {target}", file=sys.stderr)
    return 1 if summary.wrong else 0
