"""The service with fake models, as a process: python -m tests.frameworks.service --port 20000

With --api-key KEY, requests need this key; with --nan, the models answer NaN for every text.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reward_service.app import create_app
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


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--nan", action="store_true")
    options = parser.parse_args()
    key = {} if options.api_key is None else {"api_key": options.api_key}
    settings = Settings(port=options.port, default_recipe=RECIPE, threads=1, log_level="warning", **key)
    encoder, gold = (NanEncoder, NanGold) if options.nan else (LetterEncoder, LengthGold)
    app = create_app(settings, encoder_loader=lambda _: encoder(), gold_loader=lambda _: gold())
    server_for(app, settings).run()


if __name__ == "__main__":
    main()
