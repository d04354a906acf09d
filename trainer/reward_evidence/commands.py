"""`glassbox evaluate` and `glassbox report`, described without importing torch or matplotlib."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec

from reward_client.cli.command import Command


def _configure_evaluate(parser: argparse.ArgumentParser) -> None:
    from reward_evidence import evaluate

    evaluate.configure(parser)


def _evaluate(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    from reward_evidence import evaluate

    if arguments.responses is None:
        for name in ("torch", "transformers"):
            if find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)  # `glassbox` names the extra
    return evaluate.run(arguments)


def _configure_report(parser: argparse.ArgumentParser) -> None:
    from reward_evidence.report import write

    write.configure(parser)


def _report(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    from reward_evidence.report import write

    return write.run(arguments)


COMMANDS = (
    Command(
        "evaluate",
        "evaluate checkpoints or recorded responses, and write the report",
        _configure_evaluate,
        _evaluate,
        extra="train",
        needs=("numpy", "scipy", "matplotlib", "jinja2"),  # without torch: --responses loads no policy
    ),
    Command(
        "report",
        "write the report of an evaluation again",
        _configure_report,
        _report,
        extra="train",
        needs=("numpy", "scipy", "matplotlib", "jinja2"),
    ),
)
