"""Encodes a prompt and a response as the text pair that a small gold model takes as input.

    before prompt between response after       the middle of a long text is omitted

The frame is `[CLS]`, `[SEP]`, `[SEP]` for a BERT, and the tokens of the chat template for a decoder. Frame and
lengths are stored with the model, and the service truncates in the same way; a test compares the two.
"""

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from typing import Any

import torch
from jinja2 import TemplateError

from reward_runs.errors import ConfigError
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
class Frame:
    """Token ids around the two texts."""

    before: list[int]
    between: list[int]
    after: list[int]


def check_lengths(lengths: PairLengths, frame: Frame, n_positions: int) -> None:
    """Raise ConfigError when a pair can have more tokens than the model has positions for."""
    most = sum(astuple(lengths)) + len(frame.before + frame.between + frame.after)
    if most > n_positions:
        raise ConfigError(
            f"--lengths allow {most} tokens with the frame, and the base has positions for {n_positions}: "
            "shorten them"
        )


def bert_frame(tokenizer: Any) -> Frame:
    """Return the special tokens of a BERT text pair."""
    return Frame([tokenizer.cls_token_id], [tokenizer.sep_token_id], [tokenizer.sep_token_id])


def chat_frame(tokenizer: Any) -> Frame:
    """Return what the chat template writes around the texts of a user and an assistant message.

    A template that would add a system text by default is given an empty one. Raises ConfigError when the tokenizer
    has no chat template, or one that does not show both texts.
    """
    if not tokenizer.chat_template:
        raise ConfigError("the base has no chat template: choose an instruction-tuned model, or add a template")
    turns = [{"role": "user", "content": _PROMPT}, {"role": "assistant", "content": _RESPONSE}]
    rendered = [_rendered(tokenizer, turns), _rendered(tokenizer, [{"role": "system", "content": ""}, *turns])]
    parts = [re.split(f"{_PROMPT}|{_RESPONSE}", text) for text in rendered if text is not None]
    usable = [three for three in parts if len(three) == 3]
    if not usable:
        raise ConfigError(
            "the chat template of the base does not show the texts of a user and an assistant message"
        )
    shortest = min(usable, key=lambda three: len("".join(three)))
    return Frame(*(tokenizer(part, add_special_tokens=False)["input_ids"] for part in shortest))


_PROMPT, _RESPONSE = "PROMPTPLACE", "RESPONSEPLACE"


def _rendered(tokenizer: Any, messages: list[dict[str, str]]) -> str | None:
    """Return the rendered conversation; None when the template refuses it."""
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except TemplateError:
        return None


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one prompt with one response."""

    ids: list[int]
    n_first: int
    """Number of tokens of the first text, with special tokens; the following ones have token type 1."""

    @property
    def key(self) -> tuple[tuple[int, ...], int]:
        """What two rows with the same model input share."""
        return tuple(self.ids), self.n_first


def encode_pairs(
    tokenizer: Any, pairs: Sequence[Pair], lengths: PairLengths, frame: Frame
) -> list[tuple[Encoded, Encoded]]:
    """Return (chosen, rejected) of every pair."""
    prompts = _tokenized(tokenizer, [pair.prompt for pair in pairs], lengths.prompt_head, lengths.prompt_tail)
    responses = list(chain.from_iterable((pair.chosen, pair.rejected) for pair in pairs))
    parts = _tokenized(tokenizer, responses, lengths.response_head, lengths.response_tail)

    def joined(prompt: list[int], response: list[int]) -> Encoded:
        first = [*frame.before, *prompt, *frame.between]
        return Encoded([*first, *response, *frame.after], len(first))

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
    """Return model inputs (B, T), padded on the right with token 0, which the mask excludes."""
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
