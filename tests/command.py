"""A `glassbox` command run in the tests' process."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

from reward_client.cli.main import main


def exit_status(*argv: str | Path, programs: Sequence[EntryPoint] = ()) -> int:
    """The exit status of `glassbox ARGV…`; a failure with a message is 1, and prints it."""
    try:
        return main(list(map(str, argv)), programs)
    except SystemExit as exc:
        if isinstance(exc.code, str):
            print(exc.code)  # noqa: T201 - as the interpreter does
            return 1
        return exc.code or 0
