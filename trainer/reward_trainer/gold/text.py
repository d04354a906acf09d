"""How a prompt and a response become the text pair that a small gold model reads.

    [CLS] prompt [SEP] response [SEP]          of a long text the middle is left out

The lengths are stored with the model. The service reads them there and cuts alike; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from reward_trainer.gold.preferences import Pair

__all__ = ["Encoded", "PairLengths", "encode_pairs", "to_tensors"]

TOKENIZED_AT_ONCE = 2048
"""Texts per call of the tokenizer: its threads are kept busy, and memory stays small."""


@dataclass(frozen=True, slots=True)
class PairLengths:
    """How much of a text pair is read, in tokens, special tokens not counted."""

    prompt_head: int = 24
    prompt_tail: int = 40
    response_head: int = 128
    response_tail: int = 64


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt with one response."""

    ids: list[int]
    n_first: int
    """Tokens of the first text with its special tokens; the others have token type 1."""


def encode_pairs(tokenizer: Any, pairs: Sequence[Pair], lengths: PairLengths) -> list[tuple[Encoded, Encoded]]:
    """(chosen, rejected) of every pair."""
    prompts = _tokenized(tokenizer, [pair.prompt for pair in pairs], lengths.prompt_head, lengths.prompt_tail)
    responses = list(chain.from_iterable((pair.chosen, pair.rejected) for pair in pairs))
    parts = _tokenized(tokenizer, responses, lengths.response_head, lengths.response_tail)
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id

    def joined(prompt: list[int], response: list[int]) -> Encoded:
        return Encoded([start, *prompt, end, *response, end], len(prompt) + 2)

    return [
        (joined(prompt, chosen), joined(prompt, rejected))
        for prompt, chosen, rejected in zip(prompts, parts[::2], parts[1::2], strict=True)
    ]


def _tokenized(tokenizer: Any, texts: Sequence[str], head: int, tail: int) -> list[list[int]]:
    """Token ids of each text, at most its first `head` and last `tail` ones."""
    cut: list[list[int]] = []
    for start in range(0, len(texts), TOKENIZED_AT_ONCE):
        batch = list(texts[start : start + TOKENIZED_AT_ONCE])
        rows = tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]
        cut += [ids if len(ids) <= head + tail else ids[:head] + ids[len(ids) - tail :] for ids in rows]
    return cut


def to_tensors(rows: Sequence[Encoded], device: torch.device) -> dict[str, torch.Tensor]:
    """Model inputs (B, T), padded on the right; BERT's pad token is 0, and the mask hides it."""
    width = max(len(row.ids) for row in rows)
    ids, types, mask = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    for i, row in enumerate(rows):
        n = len(row.ids)
        ids[i, :n] = torch.tensor(row.ids)
        types[i, row.n_first : n] = 1
        mask[i, :n] = 1
    return {
        name: t.to(device) for name, t in (("input_ids", ids), ("token_type_ids", types), ("attention_mask", mask))
    }
