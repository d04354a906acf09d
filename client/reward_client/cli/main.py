"""Entry point of `glassbox`: lists the subcommands, or selects one and runs it."""

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint

from reward_client import __version__
from reward_client.cli.command import Command, discover, new_parser, run_program

EXIT_USAGE = 2

_DESCRIPTION = "Rewards for reinforcement learning as a service: start it, use it, train and evaluate with it."

_EPILOG = """\
`glassbox COMMAND --help` describes a command and shows examples.

examples:
  glassbox serve                                      start the service on http://127.0.0.1:8000
  glassbox score rollouts.jsonl scored.jsonl          score a file of responses
  glassbox train --reward-url http://127.0.0.1:8000   train a small policy
  glassbox doctor --url http://127.0.0.1:8000         check this machine and the service
"""


def main(argv: Sequence[str] | None = None, entry_points: Sequence[EntryPoint] | None = None) -> int:
    """Run `glassbox` with `argv`; return the exit status: 0 success, 1 failure, 2 wrong usage."""
    given = list(sys.argv[1:] if argv is None else argv)
    commands, problems = discover(entry_points)
    for problem in problems:
        _print_error(f"warning: {problem}")
    if not given or given[0].startswith("-"):
        parser = _overview_parser(commands)
        parser.parse_args(given)  # exits after --help, --version and unknown options
        parser.error(f"a command is required: {', '.join(commands)}")
    name, *rest = given
    if name not in commands:
        _print_error(_unknown(name, commands))
        return EXIT_USAGE
    return _run(commands[name], rest)


def _overview_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of `glassbox` without a command: it lists the commands, without importing what they run."""
    parser = new_parser("glassbox")
    parser.usage = "glassbox [--help] [--version] COMMAND ..."
    width = max(map(len, commands))
    listed = [f"  {name:<{width}}  {_summary(command)}" for name, command in commands.items()]
    parser.description = "\n".join([_DESCRIPTION, "", "commands:", *listed])
    parser.epilog = _EPILOG
    parser.add_argument("--version", action="version", version=f"glassbox {__version__}")
    return parser


def _summary(command: Command) -> str:
    return f"{command.summary} (not available: {_install(command)})" if command.missing() else command.summary


def _install(command: Command) -> str:
    return f"install glassbox-reward[{command.extra}]"


def _run(command: Command, argv: Sequence[str]) -> int:
    if missing := command.missing():
        return _not_installed(command, missing[0])
    try:
        return run_program(f"glassbox {command.name}", command.configure, command.run, argv)
    except ModuleNotFoundError as exc:
        module = (exc.name or "").partition(".")[0]
        if command.extra is None or not module or module.startswith("reward_"):
            raise
        return _not_installed(command, module)
    except KeyboardInterrupt:
        _print_error(f"glassbox {command.name}: stopped")
        return 130


def _not_installed(command: Command, module: str) -> int:
    _print_error(f"glassbox {command.name} needs {module}, which is not installed: {_install(command)}")
    return EXIT_USAGE


def _unknown(name: str, commands: Mapping[str, Command]) -> str:
    nearest = difflib.get_close_matches(name, commands, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"the commands are {', '.join(commands)}."
    return f"glassbox: {name!r} is not a command; {hint}"


def _print_error(line: str) -> None:
    print(line, file=sys.stderr)
