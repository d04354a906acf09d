"""`Command`: one subcommand of `glassbox`, described without importing what it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand.

    A package offers its commands as a tuple under an entry point in the group `glassbox.commands`. The module that
    defines the tuple is imported by `glassbox --help`, so it must import quickly: everything else is imported
    inside `configure` and `run`.
    """

    name: str
    """As typed on the command line."""
    summary: str
    """One line in `glassbox --help`."""
    configure: Callable[[argparse.ArgumentParser], None]
    """Sets description, epilog and arguments of the command's parser."""
    run: Callable[[argparse.Namespace, Sequence[str]], int]
    """Runs the command with the parsed arguments, and with the arguments as given; returns the exit status."""
    extra: str | None = None
    """Extra of the distribution glassbox-reward that the command needs; None: the base install is enough."""
    needs: tuple[str, ...] = ()
    """Top-level modules of that extra; the command is listed as not installed when one of them is missing."""

    def missing(self) -> list[str]:
        """The modules of `needs` that are not installed; none of them is imported."""
        return [name for name in self.needs if find_spec(name) is None]


def new_parser(prog: str) -> argparse.ArgumentParser:
    """A parser in the form that all commands share: layout of the help texts kept, no abbreviated options."""
    return argparse.ArgumentParser(
        prog=prog, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
