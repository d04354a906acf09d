"""`glassbox completion`: print a completion script for a shell."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from reward_client import __version__
from reward_client.cli.command import Command, discover, new_parser

SHELLS = ("bash", "zsh", "tcsh")

_EPILOG = """\
The script completes the commands and options that are installed now; print it again after installing more.

examples:
  eval "$(glassbox completion bash)"                                                    this shell only
  glassbox completion bash > ~/.local/share/bash-completion/completions/glassbox        every new shell
  glassbox completion zsh > ~/.zfunc/_glassbox                                          a folder in $fpath
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Print a completion script for a shell.", _EPILOG
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the script; return the exit status."""
    import shtab

    commands, _problems = discover()
    parser = _parser_of_all(commands)
    for path in _paths(parser):
        path.complete = shtab.FILE  # type: ignore[attr-defined] # the attribute by which shtab completes files
    sys.stdout.write(shtab.complete(parser, arguments.shell) + "\n")
    return 0


def _parser_of_all(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of `glassbox` with the options of every command that is installed."""
    parser = new_parser("glassbox")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers()
    for command in commands.values():
        if not command.missing():
            command.configure(subparsers.add_parser(command.name, help=command.summary))
    return parser


def _paths(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of all commands that are paths."""
    found: list[argparse.Action] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [path for command in action.choices.values() for path in _paths(command)]
        elif action.type is Path:
            found.append(action)
    return found
