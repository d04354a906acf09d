"""`glassbox doctor`: check this machine, the installation and the service."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from reward_client.cli import checks
from reward_client.cli.checks import Check, Status
from reward_client.cli.options import positive_float, url

_EPILOG = """\
Each line shows ok, note (it works, or is not needed) or missing (it is needed), and what to do next. The exit
status is 1 when something is missing.

examples:
  glassbox doctor                                      the base install and this machine
  glassbox doctor --for serve --for train              also everything that serving and training need
  glassbox doctor --url http://127.0.0.1:8000          also the service; its API key is read from GLASSBOX_API_KEY
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Check this machine, the installation and the service.", _EPILOG
    parser.add_argument(
        "--for",
        dest="uses",
        action="append",
        choices=["serve", "train"],
        default=[],
        help="what this machine is used for: what that needs must be installed; may be repeated",
    )
    parser.add_argument("--url", type=url, help="URL of a service that must be ready")
    parser.add_argument(
        "--timeout", type=positive_float, default=10.0, metavar="S", help="seconds for the service (default: 10)"
    )


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the table; return 1 when something needed is missing."""
    results = _checks(arguments)
    sys.stdout.write(table(results))
    return int(any(check.status is Status.MISSING for check in results))


def _checks(arguments: argparse.Namespace) -> list[Check]:
    serve, train = ("serve" in arguments.uses, "train" in arguments.uses)
    results = [
        checks.base_install(),
        checks.disk(Path.cwd()),
        checks.memory(),
        checks.shared_memory(),
        checks.packages("service", needed=serve),
        checks.packages("train", needed=train),
        checks.openrlhf(needed=train),
        checks.torch_device(needed=serve or train),
    ]
    if arguments.url is not None:
        results.append(checks.service(arguments.url, arguments.timeout))
    return results


def table(results: Iterable[Check]) -> str:
    """One line a check, and below it what to do next."""
    lines = []
    for check in results:
        lines.append(f"{check.status:<8} {check.subject:<14} {check.found}\n")
        if check.next_step:
            lines.append(f"{'':<8} {'':<14} → {check.next_step}\n")
    return "".join(lines)
