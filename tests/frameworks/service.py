"""The service with fake models, forked by a process that has imported it: a start takes a second, not ten.

    stdin:  one line a service, `--port 20000 [--api-key KEY] [--nan] [--gold FOLDER]`
    stdout: the process id of each

With --api-key, requests need this key; with --nan, the models answer NaN for every text; with --gold, the gold
model is the one in this folder. At the end of stdin, all services end. The process must lead a process group.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reward_service.app import create_app
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Embeddings, Tokens
from reward_service.process.server import server_for
from reward_service.settings import Settings
from tests.doubles import LengthGold, LetterEncoder

RECIPE = "rer"
"""The default recipe here: with it, the few random words of an untrained policy have rewards that differ."""


@dataclass
class NanEncoder(LetterEncoder):
    """Embeds every text as NaN."""

    def embed(self, batch: Sequence[Tokens]) -> Embeddings:
        return np.full_like(super().embed(batch), np.nan)


@dataclass
class NanGold(LengthGold):
    """Scores every exchange as NaN."""

    def score(self, batch: Sequence[Tokens]) -> list[float]:
        return [float("nan") for _ in batch]


def serve(arguments: Sequence[str]) -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--nan", action="store_true")
    parser.add_argument("--gold")
    options = parser.parse_args(arguments)
    key = {} if options.api_key is None else {"api_key": options.api_key}
    settings = Settings(port=options.port, default_recipe=RECIPE, threads=1, log_level="warning", **key)
    encoder, gold = (NanEncoder, NanGold) if options.nan else (LetterEncoder, LengthGold)
    app = create_app(
        settings,
        encoder_loader=lambda _: encoder(),
        gold_loader=lambda _: load_gold(options.gold, "cpu") if options.gold else gold(),
    )
    server_for(app, settings).run()


def start(arguments: Sequence[str]) -> int:
    """Serve in a process forked from this one; its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 (both pipes belong to the parent)
            os.dup2(nothing.fileno(), 0)
            os.dup2(nothing.fileno(), 1)
        serve(arguments)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Start the services that stdin names."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that services that were killed leave no zombies
    for line in sys.stdin:
        sys.stdout.write(f"{start(line.split())}\n")
        sys.stdout.flush()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
