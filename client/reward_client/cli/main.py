"""Entry point of `glassbox`: selects a subcommand, parses its arguments, runs it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint

from reward_client.cli.command import Command, new_parser
from reward_client.cli.discovery import discover
from reward_client.cli.overview import install_hint, overview_parser

EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None, entry_points: Sequence[EntryPoint] | None = None) -> int:
    """Run `glassbox` with `argv`; return the exit status: 0 success, 1 failure, 2 wrong usage."""
    given = list(sys.argv[1:] if argv is None else argv)
    commands, problems = discover(entry_points)
    for problem in problems:
        _print_error(f"warning: {problem}")
    if not given or given[0].startswith("-"):
        parser = overview_parser(commands)
        parser.parse_args(given)  # exits after --help, --version and unknown options
        parser.error(f"a command is required: {', '.join(commands)}")
    name, *rest = given
    if name not in commands:
        _print_error(_unknown(name, commands))
        return EXIT_USAGE
    return _run(commands[name], rest)


def _run(command: Command, argv: Sequence[str]) -> int:
    missing = command.missing()
    if missing:
        return _not_installed(command, missing[0])
    try:
        parser = new_parser(f"glassbox {command.name}")
        command.configure(parser)
        return command.run(parser.parse_args(argv), argv)
    except ModuleNotFoundError as exc:
        module = (exc.name or "").partition(".")[0]
        if command.extra is None or not module or module.startswith("reward_"):
            raise
        return _not_installed(command, module)
    except KeyboardInterrupt:
        _print_error(f"glassbox {command.name}: stopped")
        return 130


def _not_installed(command: Command, module: str) -> int:
    _print_error(f"glassbox {command.name} needs {module}, which is not installed: {install_hint(command)}")
    return EXIT_USAGE


def _unknown(name: str, commands: Mapping[str, Command]) -> str:
    nearest = difflib.get_close_matches(name, commands, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"the commands are {', '.join(commands)}."
    return f"glassbox: {name!r} is not a command; {hint}"


def _print_error(line: str) -> None:
    print(line, file=sys.stderr)
