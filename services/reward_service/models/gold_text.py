"""How an exchange becomes the tokens that a reward model reads. Two ways, one Protocol:

    ChatText   the model's own chat template over messages + response     any reward model with a template
    PairText   [CLS] prompt [SEP] response [SEP]                          small BERT-like models, `demo-gold`

Tokenizers are used for words only; which end is cut and which special tokens appear is written out here.
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
    """Turns an exchange into tokens; raises `ValueError` with the reason where it cannot."""

    def __call__(self, exchange: Exchange) -> Tokens:
        """Tokens of `exchange`, already cut to what the model reads."""
        ...


@dataclass(frozen=True)
class ChatText:
    """The exchange in the model's own chat template, cut on the left so that the response's end stays."""

    tokenizer: Any
    max_tokens: int

    def __call__(self, exchange: Exchange) -> Tokens:
        """Tokens of the rendered conversation, its last `max_tokens`."""
        messages = [message.model_dump() for message in exchange.messages]
        messages.append({"role": "assistant", "content": exchange.response})
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError as exc:
            raise ValueError(f"its chat template refuses this conversation ({exc})") from exc
        # The template writes the special tokens; adding them again would double the first one.
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return Tokens(ids[-self.max_tokens :])


class PairLengths(BaseModel):
    """How much of a text pair is read, in tokens, special tokens not counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_head: Annotated[int, Field(ge=0)]
    prompt_tail: Annotated[int, Field(ge=0)]
    response_head: Annotated[int, Field(ge=0)]
    response_tail: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class PairText:
    """Prompt and response as a BERT text pair; of a long text the middle is left out.

    A prompt's task stands at its start or its end; a response's relevance shows at its start, and its
    degeneration or missing end at its end.
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

    One user turn is its text; several turns are `Human: …`, a blank line, `Assistant: …`, as the preference
    data that pair models are fitted on write them. System turns are left out: that data has none.
    """
    turns = [message for message in exchange.messages if message.role in _SPEAKERS]
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{_SPEAKERS[turn.role]}: {turn.content}" for turn in turns)


def _without_middle(ids: Sequence[int], head: int, tail: int) -> list[int]:
    """The first `head` and the last `tail` tokens of `ids`, or all of them when they fit."""
    if len(ids) <= head + tail:
        return list(ids)
    return [*ids[:head], *ids[len(ids) - tail :]]
