"""`glassbox serve`, described without importing the service."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from reward_client.cli.command import Command

__all__ = ["COMMANDS"]


def _configure_serve(parser: argparse.ArgumentParser) -> None:
    from reward_service import __main__ as serve

    serve.configure(parser)


def _serve(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    from reward_service import __main__ as serve

    return serve.run(arguments, argv)


COMMANDS = (
    Command(
        "serve",
        "start the reward service",
        _configure_serve,
        _serve,
        extra="service",
        needs=("fastapi", "uvicorn", "torch", "transformers"),
    ),
)
