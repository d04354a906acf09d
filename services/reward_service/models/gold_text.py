"""Conversion of an exchange to the tokens that a reward model reads, in one of two formats:

    ChatText   the model's chat template over messages + response     any reward model with a template
    PairText   [CLS] prompt [SEP] response [SEP]                      small BERT-like models, `demo-gold`

Truncation and special tokens are implemented here, because tokenizer configurations differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field

from reward_service.models.protocols import Exchange, Tokens

__all__ = ["ChatText", "GoldText", "PairLengths", "PairText", "pair_prompt"]


class GoldText(Protocol):
    """Converts an exchange to tokens; raises `ValueError`, with the reason, when the format cannot express it."""

    def __call__(self, exchange: Exchange) -> Tokens:
        """Tokens of `exchange`, truncated to the model's maximum."""
        ...


@dataclass(frozen=True)
class ChatText:
    """The exchange in the model's chat template, truncated on the left to keep the end of the response."""

    tokenizer: Any
    max_tokens: int

    def __call__(self, exchange: Exchange) -> Tokens:
        """The last `max_tokens` tokens of the rendered conversation."""
        messages = [message.model_dump() for message in exchange.messages]
        messages.append({"role": "assistant", "content": exchange.response})
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError as exc:
            raise ValueError(f"its chat template refuses this conversation ({exc})") from exc
        # The template contains the special tokens already.
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return Tokens(ids[-self.max_tokens :])


class PairLengths(BaseModel):
    """Tokens to keep at the start and end of each text of a pair, without special tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_head: Annotated[int, Field(ge=0)]
    prompt_tail: Annotated[int, Field(ge=0)]
    response_head: Annotated[int, Field(ge=0)]
    response_tail: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class PairText:
    """Prompt and response as a BERT text pair; the middle of a long text is omitted.

    The task of a prompt is usually at its start or end. The start of a response shows its relevance, and its end
    shows repetition and truncation.
    """

    tokenizer: Any
    lengths: PairLengths

    def __call__(self, exchange: Exchange) -> Tokens:
        """Tokens of `[CLS] prompt [SEP] response [SEP]`."""
        keep = self.lengths
        prompt = _without_middle(self._ids(pair_prompt(exchange)), keep.prompt_head, keep.prompt_tail)
        response = _without_middle(self._ids(exchange.response), keep.response_head, keep.response_tail)
        start, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        first, second = [start, *prompt, end], [*response, end]
        return Tokens(first + second, [0] * len(first) + [1] * len(second))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


_SPEAKERS = {"user": "Human", "assistant": "Assistant", "tool": "Tool"}


def pair_prompt(exchange: Exchange) -> str:
    """The conversation before the response as one text.

    A single user message is used as it is. Several messages become `Human: …`, a blank line, `Assistant: …`, the
    format of the preference data that pair models are fitted on. System messages do not occur in that data and are
    omitted.
    """
    turns = [message for message in exchange.messages if message.role in _SPEAKERS]
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{_SPEAKERS[turn.role]}: {turn.content}" for turn in turns)


def _without_middle(ids: Sequence[int], head: int, tail: int) -> list[int]:
    """The first `head` and the last `tail` tokens of `ids`, or all of them if they fit."""
    if len(ids) <= head + tail:
        return list(ids)
    return [*ids[:head], *ids[len(ids) - tail :]]
