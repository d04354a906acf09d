"""`glassbox train` and `glassbox fit-gold`, described without importing torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from reward_client.cli.command import Command


def _configure_train(parser: argparse.ArgumentParser) -> None:
    from reward_trainer import cli

    cli.configure(parser)


def _train(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    from reward_trainer import cli

    return cli.run(arguments)


def _configure_fit_gold(parser: argparse.ArgumentParser) -> None:
    from reward_trainer import fit_gold

    fit_gold.configure(parser)


def _fit_gold(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    from reward_trainer import fit_gold

    return fit_gold.run(arguments, argv)


COMMANDS = (
    Command(
        "train",
        "train a policy with OpenRLHF and the service's rewards",
        _configure_train,
        _train,
        extra="train",
        needs=("torch", "transformers", "psutil", "datasets", "ray"),
    ),
    Command(
        "fit-gold",
        "fit a small gold model on preference pairs",
        _configure_fit_gold,
        _fit_gold,
        extra="train",
        needs=("torch", "transformers", "safetensors"),
    ),
)
