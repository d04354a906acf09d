"""Conversion of an exchange to the tokens that a reward model reads, in one of two formats:

    ChatText   the model's chat template over messages + response     any reward model with a template
    PairText   [CLS] prompt [SEP] response [SEP]                      small BERT-like models, `demo-gold`
               or a decoder's frame around the two truncated texts    models of `glassbox fit-gold`

Truncation and special tokens are implemented here, because tokenizer configurations differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, Protocol

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field

from reward_service.batching import BatchLimits
from reward_service.models.chat_template import ChatTemplate
from reward_service.models.conversation_forms import ConversationForms, Messages, described
from reward_service.models.protocols import Exchange, RawText, Tokens, UnreadablePromptError
from reward_service.models.special_tokens import SpecialTokens

CPU_LIMITS = BatchLimits(max_tokens=1024, max_items=16)
"""Batch limits on CPUs. Larger batches are not faster on a few cores and delay the next request."""

ADAPTED = "gold_prompt_adapted"
"""Flag of an item whose system or developer messages were given another place or role for the chat template."""

SYSTEM_OMITTED = "gold_system_omitted"
"""Flag of an item whose system and developer messages a text-pair model does not read."""


UNDIVIDED = "gold_text_undivided"
"""Flag of a single text that was scored by a model of text pairs."""


class GoldText(Protocol):
    """Converts an exchange to tokens; raises `ValueError`, with the reason, when the format cannot express it."""

    def __call__(self, exchange: Exchange) -> Tokens:
        """Tokens of `exchange`, truncated to the model's maximum."""
        ...

    def raw(self, text: RawText) -> Tokens:
        """Tokens of `text`, as plain Transformers reads it."""
        ...


class ChatText:
    """The exchange in the model's chat template, truncated on the left to keep the end of the response.

    Raises:
        ValueError: the tokenizer's chat template is not a Jinja template, or does not show the texts of a user and
            an assistant message, or the tokenizer has several without a default.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        """Wrap `tokenizer`, which has a chat template."""
        self._tokenizer = tokenizer
        self._special = SpecialTokens(tokenizer)
        self._max_tokens = max_tokens
        try:
            self._template = ChatTemplate(tokenizer.get_chat_template())
        except TemplateError as exc:
            raise ValueError(f"its chat template is invalid: {described(exc)}") from exc
        self._forms = ConversationForms(self._render)
        self._forms.form_for(["user", "assistant"])

    def __call__(self, exchange: Exchange) -> Tokens:
        """The last `max_tokens` tokens of the rendered conversation."""
        messages = conversation(exchange)
        texts, separator = self._special.divided([message["content"] for message in messages])
        posted = [message | {"content": text} for message, text in zip(messages, texts, strict=True)]
        text, adapted = self._rendered(posted)
        # The template contains the special tokens already.
        ids = _ids(self._tokenizer, text, separator, self._max_tokens)[-self._max_tokens :]
        return Tokens(ids, flags=(ADAPTED,) if adapted else ())

    def rendered(self, exchange: Exchange) -> str:
        """The rendered conversation, in which names of special tokens are not divided."""
        return self._rendered(conversation(exchange))[0]

    def _rendered(self, messages: Messages) -> tuple[str, bool]:
        """The conversation as text, and whether its form was changed."""
        try:
            form = self._forms.form_for([message["role"] for message in messages])
        except ValueError as exc:
            raise UnreadablePromptError(str(exc)) from exc
        formed = form(messages)
        try:
            return self._render(formed), formed != messages
        except Exception as exc:
            raise ValueError(f"its chat template refuses this conversation ({described(exc)})") from exc

    def raw(self, text: RawText) -> Tokens:
        """The tokens of a conversation that the caller rendered."""
        return raw_tokens(self._tokenizer, text, self._max_tokens)

    def _render(self, messages: Messages) -> str:
        return self._template.render(messages, **self._tokenizer.special_tokens_map)


def conversation(exchange: Exchange) -> list[dict[str, str]]:
    """The messages of `exchange`, with the response as the last one."""
    messages = [message.model_dump() for message in exchange.messages]
    return [*messages, {"role": "assistant", "content": exchange.response}]


def raw_tokens(tokenizer: Any, raw: RawText, most: int, flags: tuple[str, ...] = ()) -> Tokens:
    """Tokens of a text as it is. Raises ValueError when the tokenizer cannot read it, or it has too many."""
    keep = math.inf if raw.max_tokens is None else min(most, raw.max_tokens)
    try:
        ids = bare = tokenizer(raw.text, add_special_tokens=raw.add_special_tokens, verbose=False)["input_ids"]
        truncates = len(ids) > keep
        if truncates and raw.add_special_tokens:
            bare = tokenizer(raw.text, add_special_tokens=False, verbose=False)["input_ids"]
    except Exception as exc:
        raise ValueError(f"its tokenizer cannot read this text ({described(exc)})") from exc
    if not ids:
        raise ValueError("it has no tokens")
    if truncates:
        ids = _truncated(ids, bare, int(keep), keeps_end=raw.keeps_end)
    if len(ids) > most:
        raise ValueError(f"it has {len(ids)} tokens, and the model reads at most {most}")
    return Tokens(ids, flags=flags)


def _truncated(ids: list[int], bare: list[int], most: int, *, keeps_end: bool) -> list[int]:
    """`ids` with a part of `bare`, which are those of the text alone, so that there are at most `most`."""
    n_own = len(ids) - len(bare)
    start = next((place for place in range(n_own + 1) if ids[place : place + len(bare)] == bare), None)
    if start is None:
        raise ValueError("its tokenizer adds tokens inside a text, so that it cannot be truncated here")
    room = most - n_own
    if room < 1:
        raise ValueError(f"{most} tokens have no room for a text beside the tokens that the tokenizer adds")
    kept = bare[-room:] if keeps_end else bare[:room]
    return [*ids[:start], *kept, *ids[start + len(bare) :]]


def _ids(tokenizer: Any, text: str, separator: str | None, most: int) -> list[int]:
    """Tokens of `text`, without special ones that the tokenizer would add; of a long text, those that may be among
    the first `most` or the last `most`. Raises ValueError when the tokenizer cannot read it.

    The pieces between separators are tokenized one by one; see `SpecialTokens`. Each has a part of a name, so
    it has at least one token.
    """
    pieces = text.split(separator) if separator else [text]
    if len(pieces) > 2 * most + 2:
        pieces = [*pieces[: most + 1], *pieces[-most - 1 :]]
    try:
        found = tokenizer(pieces, add_special_tokens=False, verbose=False)["input_ids"]
    except Exception as exc:
        raise ValueError(f"its tokenizer cannot read this text ({described(exc)})") from exc
    return list(chain.from_iterable(found))


class PairLengths(BaseModel):
    """Tokens to keep at the start and end of each text of a pair, without special tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_head: Annotated[int, Field(ge=0)]
    prompt_tail: Annotated[int, Field(ge=0)]
    response_head: Annotated[int, Field(ge=0)]
    response_tail: Annotated[int, Field(ge=0)]


class Frame(BaseModel):
    """Token ids around the texts of a pair that a decoder reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: list[int]
    between: list[int]
    after: list[int]


@dataclass(frozen=True)
class PairText:
    """Prompt and response as a text pair; the middle of a long text is omitted.

    The task of a prompt is usually at its start or end. The start of a response shows its relevance, and its end
    shows repetition and truncation.
    """

    tokenizer: Any
    lengths: PairLengths
    frame: Frame | None = None
    """Of a decoder; None for a BERT."""

    @property
    def max_tokens(self) -> int:
        """The most tokens that a row can have."""
        keep, frame = self.lengths, self.frame
        n_frame = len(frame.before + frame.between + frame.after) if frame else 3
        return keep.prompt_head + keep.prompt_tail + keep.response_head + keep.response_tail + n_frame

    def fitting(self, n_positions: int | None) -> PairText:
        """This object. Raises ValueError when a row can have more tokens than a model has positions for."""
        if n_positions is not None and self.max_tokens > n_positions:
            raise ValueError(
                f"with its lengths a text has up to {self.max_tokens} tokens, and the model has positions for "
                f"{n_positions}: shorten the lengths"
            )
        return self

    @cached_property
    def special(self) -> SpecialTokens:
        """Names of special tokens, which are tokenized as text."""
        return SpecialTokens(self.tokenizer)

    def __call__(self, exchange: Exchange) -> Tokens:
        """Tokens of the frame with both texts."""
        keep = self.lengths
        texts, separator = self.special.divided([pair_prompt(exchange), exchange.response])
        most = max(keep.prompt_head, keep.prompt_tail, keep.response_head, keep.response_tail)
        prompt_ids, response_ids = (_ids(self.tokenizer, text, separator, most) for text in texts)
        prompt = _without_middle(prompt_ids, keep.prompt_head, keep.prompt_tail)
        response = _without_middle(response_ids, keep.response_head, keep.response_tail)
        flags = pair_flags(exchange)
        if frame := self.frame:
            ids = [*frame.before, *prompt, *frame.between, *response, *frame.after]
            return Tokens(ids, flags=flags)
        start, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        first, second = [start, *prompt, end], [*response, end]
        return Tokens(first + second, [0] * len(first) + [1] * len(second), flags=flags)

    def raw(self, text: RawText) -> Tokens:
        """Tokens of `[CLS] text [SEP]`, which does not show where the prompt ends; flagged."""
        return raw_tokens(self.tokenizer, text, self.max_tokens, (UNDIVIDED,))


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


def pair_flags(exchange: Exchange) -> tuple[str, ...]:
    """The flag of a conversation with messages that `pair_prompt` omits."""
    return (SYSTEM_OMITTED,) if any(turn.role not in _SPEAKERS for turn in exchange.messages) else ()


def _without_middle(ids: Sequence[int], head: int, tail: int) -> list[int]:
    """The first `head` and the last `tail` tokens of `ids`, or all of them if they fit."""
    if len(ids) <= head + tail:
        return list(ids)
    return [*ids[:head], *ids[len(ids) - tail :]]
