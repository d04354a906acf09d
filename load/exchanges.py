"""Generate prompts and responses to score: as many as needed, all different, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from reward_client import Item

__all__ = ["MAX_RESPONSE_TOKENS", "Exchange", "generate", "generate_equal", "score_body"]

MAX_RESPONSE_TOKENS = 64
"""Every response has fewer: a word is one token of the embedded encoder, the number at the end at most nine."""
_MIN_WORDS, _MAX_WORDS = 8, 50

_TEXT = (
    "air light water stone the a of in and because so when cold warm small large moves falls holds keeps blue red "
    "green tree river house bread salt sun moon night day road hand book fire snow rain wind field horse bird fish"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Exchange:
    """One prompt and one response."""

    prompt: str
    response: str

    @property
    def item(self) -> Item:
        """For `POST /score`."""
        return Item(prompt=self.prompt, response=self.response)

    @property
    def rendered(self) -> str:
        """The prompt as a chat template renders it."""
        return f"<|im_start|>user\n{self.prompt}<|im_end|>\n<|im_start|>assistant\n"

    @property
    def openrlhf_body(self) -> dict[str, object]:
        """The body that OpenRLHF posts for this rollout."""
        return {
            "query": [f"{self.rendered}{self.response}<|im_end|>"],
            "prompts": [self.rendered],
            "labels": [None],
        }


def generate(kind: str) -> Iterator[Exchange]:
    """Exchanges without end; different values of `kind` have no text in common."""
    rng, number = random.Random(kind), 0
    while True:
        number += 1
        words = rng.choices(_WORDS, k=rng.randint(_MIN_WORDS, _MAX_WORDS))
        topic = " and ".join(rng.choices(_WORDS, k=2))
        yield Exchange(f"Tell me about {topic} ({kind} {number}).", f"{' '.join(words)} {kind} {number}.")


def generate_equal(kind: str, n_words: int = 24) -> Iterator[Exchange]:
    """Like `generate`, with prompts and responses of `n_words` words: each text takes the same time."""
    rng, number = random.Random(kind), 0
    while True:
        number += 1
        prompt, response = (" ".join(rng.choices(_WORDS, k=n_words)) for _ in range(2))
        yield Exchange(f"{prompt} {kind} {number}?", f"{response} {kind} {number}.")


def score_body(exchanges: list[Exchange], gold: bool = False) -> bytes:
    """The body of `POST /score` for `exchanges`."""
    rows = ",".join(exchange.item.model_dump_json(exclude_none=True) for exchange in exchanges)
    return f'{{"items":[{rows}],"gold":{"true" if gold else "false"}}}'.encode()
