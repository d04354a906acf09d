"""glassbox: the command line of the client.

glassbox score IN.jsonl OUT.jsonl --url …       score a file through the service
glassbox calibrate PAIRS.jsonl OUT.yaml --url … measure an encoder's similarities, write a recipe that fits it
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reward_client.calibrate import calibrate
from reward_client.client import RewardClient
from reward_client.errors import RewardError
from reward_client.score_file import FileError, ScoreOptions, score_file
from reward_client.urls import API_KEY_VARIABLE, key_from_environment

__all__ = ["main"]

_DEFAULT_URL = "http://127.0.0.1:8000"

_SCORE_EPILOG = """\
Each line of IN is one item of POST /score, as JSON: prompt, response, and reference, query_type, id where known.
Each line of OUT is that line with "result" added (reward, features, query type, gold reward), and "scored_by":
recipe with hash, models, and what a reader of the numbers must know. A run that was
stopped goes on where it ended; --overwrite starts afresh.

example:
  glassbox score rollouts.jsonl scored.jsonl --url http://127.0.0.1:8000 --recipe rer --gold
"""

_CALIBRATE_EPILOG = """\
Each line of PAIRS is JSON with a prompt and a response that answers it, and a reference where there is one.
Matched pairs are compared with mismatched ones (each prompt with the next line's response). The recipe maps the
mismatched median to 0 and the matched 90th percentile to 1, so that relevance spans the same scale on any encoder.

example:
  glassbox calibrate pairs.jsonl recipes/rer-contriever.yaml --url http://127.0.0.1:8000
  python -m reward_service --encoder facebook/contriever --recipes-dir recipes --default-recipe rer-contriever
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="glassbox", description="Ask a Glassbox reward service.")
    commands = parser.add_subparsers(dest="command", required=True)
    raw = argparse.RawDescriptionHelpFormatter

    score = commands.add_parser("score", help="score a JSONL file", epilog=_SCORE_EPILOG, formatter_class=raw)
    score.add_argument("source", metavar="IN", type=Path)
    score.add_argument("target", metavar="OUT", type=Path)
    score.add_argument("--recipe", help="a recipe that the service knows (default: the service's own)")
    score.add_argument("--gold", action="store_true", help="also score with the gold model")
    score.add_argument("--batch", type=_positive, default=64, metavar="N", help="items a request (default: 64)")
    score.add_argument("--query-type-default", choices=["open_ended", "closed_ended"])
    score.add_argument("--on-item-error", choices=["fail", "report"], default="fail")
    score.add_argument("--overwrite", action="store_true", help="replace OUT instead of going on where it ends")

    fit = commands.add_parser(
        "calibrate", help="fit a recipe to an encoder", epilog=_CALIBRATE_EPILOG, formatter_class=raw
    )
    fit.add_argument("pairs", metavar="PAIRS", type=Path)
    fit.add_argument("target", metavar="OUT.yaml", type=Path)
    fit.add_argument("--similarity", choices=["cosine", "dot"], default="cosine", help="(default: cosine)")

    for command in (score, fit):
        command.add_argument(
            "--url",
            action="append",
            help=f"where the service listens (default: {_DEFAULT_URL}); several replicas: give it again. "
            f"A key is taken from {API_KEY_VARIABLE}",
        )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; errors are one line on standard error and exit status 1."""
    arguments = _parser().parse_args(argv)
    try:
        with RewardClient(arguments.url or _DEFAULT_URL, api_key=key_from_environment()) as client:
            if arguments.command == "score":
                _score(client, arguments)
            else:
                print(calibrate(client, arguments.pairs, arguments.target, arguments.similarity))
    except (RewardError, FileError) as exc:
        sys.exit(f"glassbox {arguments.command}: {exc}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")


def _score(client: RewardClient, arguments: argparse.Namespace) -> None:
    options = ScoreOptions(
        recipe=arguments.recipe,
        gold=arguments.gold,
        query_type_default=arguments.query_type_default,
        on_item_error=arguments.on_item_error,
        batch=arguments.batch,
        overwrite=arguments.overwrite,
    )
    for progress in score_file(client, arguments.source, arguments.target, options):
        print(f"\r{progress}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"scored into {arguments.target}")
