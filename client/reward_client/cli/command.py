"""The subcommands of `glassbox`: what one is, where they are found, and how one runs without importing the others.

A package offers its commands as a `Command`, or a tuple of them, under an entry point in the group
`glassbox.commands`. `glassbox --help` imports the module that defines the tuple, so that must be quick:
`Command.lazy` names the module that a command runs, which is imported when the command is used.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from reward_client.writing import OutputError, next_step

EXIT_NOT_WRITTEN = 2
EXIT_PIPE = 141
"""Of a shell command that SIGPIPE ended."""

GROUP = "glassbox.commands"
"""Entry points of this group refer to a `Command`, or to a tuple of them."""

Configure = Callable[[argparse.ArgumentParser], None]
"""Sets description, epilog and arguments of a command's parser."""
Run = Callable[[argparse.Namespace, Sequence[str]], int]
"""Runs a command with the parsed arguments, and with the arguments as given; returns the exit status."""


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand."""

    name: str
    """As typed on the command line."""
    summary: str
    """One line in `glassbox --help`."""
    configure: Configure
    run: Run
    extra: str | None = None
    """Extra of the distribution glassbox-reward that the command needs; None: the base install is enough."""
    needs: tuple[str, ...] = ()
    """Top-level modules of that extra; the command is listed as not installed when one of them is missing."""

    @classmethod
    def lazy(cls, name: str, summary: str, module: str, **options: Any) -> Self:
        """A command that `module` implements, with functions `configure` and `run`; it is imported when used."""
        return cls(
            name,
            summary,
            lambda parser: import_module(module).configure(parser),
            lambda arguments, argv: import_module(module).run(arguments, argv),
            **options,
        )

    def missing(self) -> list[str]:
        """The modules of `needs` that are not installed; none of them is imported."""
        return [name for name in self.needs if find_spec(name) is None]


COMMANDS = (
    Command.lazy("score", "score a JSONL file of responses", "reward_client.cli.score"),
    Command.lazy("annotate", "annotate prompts with their query types", "reward_client.cli.annotate"),
    Command.lazy("calibrate", "write a recipe that fits an encoder", "reward_client.cli.calibrate"),
    Command.lazy("probe", "show what a reward pays for", "reward_client.cli.probe"),
    Command.lazy("diff", "compare how two recipes order the same responses", "reward_client.cli.diff"),
    Command.lazy("datasets", "keep references of prompts on a service", "reward_client.cli.datasets"),
    Command.lazy("doctor", "check this machine, the installation and the service", "reward_client.cli.doctor"),
    Command.lazy(
        "completion",
        "print a completion script for a shell",
        "reward_client.cli.completion",
        extra="completion",
        needs=("shtab",),
    ),
)
"""The commands of the base install."""


def discover(found: Iterable[EntryPoint] | None = None) -> tuple[Mapping[str, Command], list[str]]:
    """Collect the commands by name, in alphabetical order.

    Args:
        found: the entry points to load; those of the installed distributions when None.

    Returns:
        The commands, and one sentence for each entry point that cannot be used.
    """
    commands = {command.name: command for command in COMMANDS}
    problems: list[str] = []
    for point in sorted(entry_points(group=GROUP) if found is None else found):
        try:
            offered = {command.name: command for command in _commands_of(point)}
        except Exception as exc:  # noqa: BLE001 - a package that is broken must not break the other commands
            problems.append(f"{point.name} ({point.value}) cannot be loaded: {type(exc).__name__}: {exc}")
            continue
        taken = commands.keys() & offered.keys()
        problems += [f"{point.name} ({point.value}): a command {name!r} exists already" for name in sorted(taken)]
        commands |= {name: command for name, command in offered.items() if name not in taken}
    return dict(sorted(commands.items())), problems


def _commands_of(point: EntryPoint) -> tuple[Command, ...]:
    loaded = point.load()
    commands = loaded if isinstance(loaded, tuple) else (loaded,)
    if not all(isinstance(command, Command) for command in commands):
        raise TypeError("it must refer to a Command or a tuple of Commands")
    return commands


def new_parser(prog: str) -> argparse.ArgumentParser:
    """A parser in the form that all commands share: layout of the help texts kept, no abbreviated options."""
    return argparse.ArgumentParser(
        prog=prog, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def run_program(prog: str, configure: Configure, run: Run, argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, those of this process when None, and run; return the exit status.

    What cannot be written ends every command in the same way: one line, and EXIT_NOT_WRITTEN.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    parser = new_parser(prog)
    configure(parser)
    arguments = parser.parse_args(given)
    try:
        status = run(arguments, given)
        _flush_output()
    except BrokenPipeError:  # what read the output has ended, as `head` does
        _discard_output()
        return EXIT_PIPE
    except (OutputError, OSError) as exc:
        if not isinstance(exc, OutputError) and exc.errno is None:  # of a library: its place says more
            raise
        try:
            _flush_output()  # what a command has printed is complete
        except OSError:
            _discard_output()
        print(f"{prog}: error: {exc if isinstance(exc, OutputError) else _described(exc)}", file=sys.stderr)
        return EXIT_NOT_WRITTEN
    return status


def _described(exc: OSError) -> str:
    """An error of the system that no command expects; without a name it is one of writing the standard output."""
    path = Path(str(exc.filename or "the output"))
    return f"{path} cannot be used: {exc.strerror or exc}; {next_step(path, exc)}"


def _flush_output() -> None:
    if sys.stdout is not None:  # closed by the shell: `>&-`
        sys.stdout.flush()


def _discard_output() -> None:
    """Let Python end without another error from what is not yet written."""
    if sys.stdout is None:
        return
    with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
