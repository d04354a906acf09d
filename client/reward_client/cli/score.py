"""`glassbox score`: score a JSONL file through the service."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reward_client.cli.options import add_url, connect, positive_int, reporting_errors
from reward_client.score_file import score_file

_EPILOG = """\
Each line of IN is one item of POST /score, as JSON: prompt, response, and optionally reference, query_type, id.
Each line of OUT is the input line with two more fields: "result" (reward, features, query type, gold reward; with
--explain also the attribution) and "scored_by" (recipe with its hash, models, notices). A run that was stopped
continues at the end of OUT; --overwrite starts again.

example:
  glassbox score rollouts.jsonl scored.jsonl --url http://127.0.0.1:8000 --recipe rer --gold
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Score the responses in a JSONL file.", _EPILOG
    parser.add_argument("source", metavar="IN", type=Path, help="JSONL file of items")
    parser.add_argument("target", metavar="OUT", type=Path, help="JSONL file to write")
    parser.add_argument("--recipe", help="one of the service's recipes (default: the service's default)")
    parser.add_argument("--gold", action="store_true", help="also score with the gold model")
    parser.add_argument("--explain", action="store_true", help="also write the part of each factor of the reward")
    parser.add_argument(
        "--batch", type=positive_int, default=64, metavar="N", help="items in a request (default: 64)"
    )
    parser.add_argument(
        "--query-type-default",
        choices=["open_ended", "closed_ended"],
        help="for items that have a reference and no query_type",
    )
    parser.add_argument(
        "--on-item-error",
        choices=["fail", "report"],
        default="fail",
        help="stop at an item that cannot be scored, or write its error into OUT (default: fail)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT instead of continuing at its end")
    add_url(parser)


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Score the file, showing progress; return the exit status."""
    options = dict(vars(arguments))
    source, target, urls = (options.pop(name) for name in ("source", "target", "url"))
    with reporting_errors("score"), connect(urls) as client:
        for progress in score_file(client, source, target, **options):
            print(f"\r{progress}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"scored into {target}")
    return 0
