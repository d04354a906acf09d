"""Finds the subcommands of the installed packages: the client's own, and those offered as entry points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from reward_client.cli.command import Command

GROUP = "glassbox.commands"
"""Entry points of this group refer to a `Command`, or to a tuple of them."""

_CLIENT = EntryPoint("client", "reward_client.cli.commands:COMMANDS", GROUP)
"""The client's own commands, which need no installed metadata."""


def discover(found: Iterable[EntryPoint] | None = None) -> tuple[Mapping[str, Command], list[str]]:
    """Collect the commands by name, in alphabetical order.

    Args:
        found: the entry points to load; those of the installed distributions when None.

    Returns:
        The commands, and one sentence for each entry point that cannot be used.
    """
    commands: dict[str, Command] = {}
    problems: list[str] = []
    for point in (_CLIENT, *sorted(entry_points(group=GROUP) if found is None else found)):
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
