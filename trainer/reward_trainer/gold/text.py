"""Encodes a prompt and a response as the text pair that a small gold model takes as input.

    [CLS] prompt [SEP] response [SEP]          the middle of a long text is omitted

The lengths are stored with the model, and the service truncates in the same way; a test compares the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from reward_trainer.gold.preferences import Pair

TOKENIZED_AT_ONCE = 2048
"""Texts per call of the tokenizer: enough for its threads, with little memory."""


@dataclass(frozen=True, slots=True)
class PairLengths:
    """Maximum number of tokens of each part, without special tokens."""

    prompt_head: int = 24
    prompt_tail: int = 40
    response_head: int = 128
    response_tail: int = 64


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one prompt with one response."""

    ids: list[int]
    n_first: int
    """Number of tokens of the first text, with special tokens; the following ones have token type 1."""


def encode_pairs(tokenizer: Any, pairs: Sequence[Pair], lengths: PairLengths) -> list[tuple[Encoded, Encoded]]:
    """Return (chosen, rejected) of every pair."""
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
    """Return the token ids of each text: at most its first `head` and last `tail` ones."""
    truncated: list[list[int]] = []
    for start in range(0, len(texts), TOKENIZED_AT_ONCE):
        batch = list(texts[start : start + TOKENIZED_AT_ONCE])
        rows = tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]
        truncated += [ids if len(ids) <= head + tail else ids[:head] + ids[len(ids) - tail :] for ids in rows]
    return truncated


def to_tensors(rows: Sequence[Encoded], device: torch.device) -> dict[str, torch.Tensor]:
    """Return model inputs (B, T), padded on the right with BERT's pad token 0, which the mask excludes."""
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
