"""The service as a separate process, with fake models whose speed does not depend on the machine.

`python -m tests.api.hostile.fake_service` has the options of `python -m reward_service`, and no supervisor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from load.service import raise_descriptor_limit
from reward_client.cli.command import new_parser
from reward_service.__main__ import configure, read_settings
from reward_service.app import create_app
from reward_service.batching import BatchLimits
from reward_service.models.protocols import Embeddings, Tokens
from reward_service.process.cpu_scheduling import set_batch
from reward_service.process.server import server_for, shorten_pauses
from tests.doubles import LengthGold

TOKENS_PER_S = 50_000
"""Speed of the encoder: three times that of the embedded one on two cores."""
_MAX_TOKENS = 512
_LONGEST_WORD = 50
"""Characters of a word that count; the embedded tokenizer has a bound of the same kind."""


@dataclass
class PacedEncoder:
    """One token per word, at most 512 of a text; a forward pass sleeps for the time that its tokens take."""

    id: str = "paced"
    revision: str = "0"
    device: str = "cpu"
    backend: str = "sleeping"
    limits: BatchLimits = BatchLimits(max_tokens=8192, max_items=64)  # noqa: RUF009 (immutable)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        return [Tokens([len(word[:_LONGEST_WORD]) for word in text.split(None, _MAX_TOKENS)][:_MAX_TOKENS] or [0])
                for text in texts]  # fmt: skip

    def embed(self, batch: Sequence[Tokens]) -> Embeddings:
        time.sleep(sum(len(tokens) for tokens in batch) / TOKENS_PER_S)
        lengths = [np.bincount(tokens.input_ids, minlength=_LONGEST_WORD + 1) for tokens in batch]
        return np.array(lengths, dtype=np.float32)


def main(argv: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    parser = new_parser("fake_service")
    configure(parser)
    settings, _ = read_settings(parser.parse_args(argv))
    raise_descriptor_limit()
    set_batch()
    app = create_app(settings, encoder_loader=lambda _: PacedEncoder(), gold_loader=lambda _: LengthGold())
    shorten_pauses()
    server_for(app, settings).run()


if __name__ == "__main__":
    main(sys.argv[1:])
