"""`glassbox calibrate`: measure an encoder's similarities and write a recipe that fits it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reward_client.calibrate import calibrate
from reward_client.cli.options import add_url, connect, reporting_errors

_EPILOG = """\
Each line of PAIRS is JSON with a prompt, a response that answers it, and optionally a reference. The similarity of
matched pairs is compared with that of mismatched ones (each prompt with the next line's response). The recipe
maps the mismatched median to 0 and the matched 90th percentile to 1, so that relevance has the same scale on any
encoder.

example:
  glassbox calibrate pairs.jsonl recipes/rer-contriever.yaml --url http://127.0.0.1:8000
  glassbox serve --encoder facebook/contriever --recipes-dir recipes --default-recipe rer-contriever
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Write a recipe whose relevance ranges fit the service's encoder.", _EPILOG
    parser.add_argument("pairs", metavar="PAIRS", type=Path, help="JSONL file of matched pairs")
    parser.add_argument("target", metavar="OUT.yaml", type=Path, help="recipe to write")
    parser.add_argument("--similarity", choices=["cosine", "dot"], default="cosine", help="(default: cosine)")
    add_url(parser)


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Measure, write the recipe, print what was measured; return the exit status."""
    with reporting_errors("calibrate"), connect(arguments.url) as client:
        print(calibrate(client, arguments.pairs, arguments.target, arguments.similarity))
    return 0
