"""Conversion of an exchange to the tokens that a reward model reads, in one of two formats:

    ChatText   the model's chat template over messages + response     any reward model with a template
    PairText   [CLS] prompt [SEP] response [SEP]                      small BERT-like models, `demo-gold`

Truncation and special tokens are implemented here, because tokenizer configurations differ.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field

from reward_service.models.chat_template import ChatTemplate
from reward_service.models.protocols import Exchange, Tokens

MAX_REASON_CHARS = 300
"""Characters of a template's or tokenizer's error in an item's error."""


class GoldText(Protocol):
    """Converts an exchange to tokens; raises `ValueError`, with the reason, when the format cannot express it."""

    def __call__(self, exchange: Exchange) -> Tokens:
        """Tokens of `exchange`, truncated to the model's maximum."""
        ...


class ChatText:
    """The exchange in the model's chat template, truncated on the left to keep the end of the response.

    Raises:
        ValueError: the tokenizer's chat template is not a Jinja template, or the tokenizer has several without a
            default.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        """Wrap `tokenizer`, which has a chat template."""
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        try:
            self._template = ChatTemplate(tokenizer.get_chat_template())
        except TemplateError as exc:
            raise ValueError(f"its chat template is invalid: {_described(exc)}") from exc

    def __call__(self, exchange: Exchange) -> Tokens:
        """The last `max_tokens` tokens of the rendered conversation."""
        messages = [message.model_dump() for message in exchange.messages]
        messages.append({"role": "assistant", "content": exchange.response})
        try:
            text = self._template.render(messages, **self._tokenizer.special_tokens_map)
        except Exception as exc:
            raise ValueError(f"its chat template refuses this conversation ({_described(exc)})") from exc
        # The template contains the special tokens already.
        return Tokens(_ids(self._tokenizer, text)[-self._max_tokens :])


def _described(exc: Exception) -> str:
    """A template's own message, or another error with its type; cut, because it may quote the conversation."""
    text = str(exc) if isinstance(exc, TemplateError) else f"{type(exc).__name__}: {exc}"
    return textwrap.shorten(text, MAX_REASON_CHARS, placeholder="…") if len(text) > MAX_REASON_CHARS else text


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Tokens of `text`, without special ones that the tokenizer would add. Raises ValueError when that fails."""
    try:
        ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    except Exception as exc:
        raise ValueError(f"its tokenizer cannot read this text ({_described(exc)})") from exc
    return ids


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
        prompt_ids, response_ids = (
            _ids(self.tokenizer, text) for text in (pair_prompt(exchange), exchange.response)
        )
        prompt = _without_middle(prompt_ids, keep.prompt_head, keep.prompt_tail)
        response = _without_middle(response_ids, keep.response_head, keep.response_tail)
        start, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        first, second = [start, *prompt, end], [*response, end]
        return Tokens(first + second, [0] * len(first) + [1] * len(second))


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
