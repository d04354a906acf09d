"""The parsers of `glassbox` as a whole: for `--help` and `--version`, and for shell completion."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from reward_client import __version__
from reward_client.cli.command import Command, new_parser

_DESCRIPTION = "Rewards for reinforcement learning as a service: start it, use it, train and evaluate with it."

_EPILOG = """\
`glassbox COMMAND --help` describes a command and shows examples.

examples:
  glassbox serve                                      start the service on http://127.0.0.1:8000
  glassbox score rollouts.jsonl scored.jsonl          score a file of responses
  glassbox train --reward-url http://127.0.0.1:8000   train a small policy
  glassbox doctor --url http://127.0.0.1:8000         check this machine and the service
"""


def overview_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of `glassbox` without a command: it lists the commands, without importing what they run."""
    parser = new_parser("glassbox")
    parser.usage = "glassbox [--help] [--version] COMMAND ..."
    width = max(map(len, commands))
    listed = [f"  {name:<{width}}  {_summary(command)}" for name, command in commands.items()]
    parser.description = "\n".join([_DESCRIPTION, "", "commands:", *listed])
    parser.epilog = _EPILOG
    parser.add_argument("--version", action="version", version=f"glassbox {__version__}")
    return parser


def completion_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of `glassbox` with the options of every command that is installed."""
    parser = new_parser("glassbox")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers()
    for command in commands.values():
        if not command.missing():
            command.configure(subparsers.add_parser(command.name, help=command.summary))
    return parser


def install_hint(command: Command) -> str:
    """What to install for `command`."""
    return f"install glassbox-reward[{command.extra}]"


def _summary(command: Command) -> str:
    return f"{command.summary} (not available: {install_hint(command)})" if command.missing() else command.summary
