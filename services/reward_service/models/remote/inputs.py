"""What a server is sent for a conversation.

    messages   the conversation; the server renders it with its chat template
    pair       the prompt and the response, for models of text pairs
    text       the conversation in the tokenizer's chat template, without the special tokens that the server adds
    ids        the tokens of that conversation, truncated on the left

A text is sent only if the tokenizer makes the same tokens of it as of the conversation here. So a response that
has the name of a special token is an error with `text`: the server would read it as that token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reward_service.models.gold_text import ChatText, conversation, pair_flags, pair_prompt
from reward_service.models.protocols import Exchange, RawText, Tokens
from reward_service.models.remote.spec import Sends

_CHARS_PER_TOKEN = 4
"""In English text, to estimate the tokens of what the server tokenizes."""


@dataclass(frozen=True, slots=True)
class RemoteInput(Tokens):
    """What is sent for one item. Without a tokenizer, `input_ids` only has the estimated number of tokens."""

    sent: Any = None
    """Messages, two texts, or one text; None for token ids, which are `input_ids`."""


class RemoteText:
    """Converts exchanges and texts to what the server is sent."""

    def __init__(self, sends: Sends, tokenizer: Any = None, max_tokens: int = 0) -> None:
        """`tokenizer`, with a chat template, and `max_tokens` are for `text` and `ids`."""
        self._tokenizer = tokenizer
        self._chat = ChatText(tokenizer, max_tokens) if tokenizer is not None else None
        self._of: Callable[[Exchange], RemoteInput] = {
            "messages": _messages,
            "pair": _pair,
            "text": self._text,
            "ids": self._ids,
        }[sends]
        self._sends = sends

    def __call__(self, exchange: Exchange) -> RemoteInput:
        """What is sent for `exchange`. Raises ValueError, with the reason."""
        return self._of(exchange)

    def raw(self, text: RawText) -> RemoteInput:
        """What is sent for a text as it is. Raises ValueError when the server can be sent conversations only."""
        if self._chat is None:
            raise ValueError(
                "the remote gold model is sent conversations only; add tokenizer= to --gold for texts"
            )
        tokens = self._chat.raw(text)
        if self._sends == "ids":
            return RemoteInput(tokens.input_ids)
        return RemoteInput(tokens.input_ids, sent=self._checked(text.text, tokens))

    def _ids(self, exchange: Exchange) -> RemoteInput:
        tokens = self._of_chat(exchange)
        return RemoteInput(tokens.input_ids, flags=tokens.flags)

    def _text(self, exchange: Exchange) -> RemoteInput:
        tokens = self._of_chat(exchange)
        assert self._chat is not None  # noqa: S101 - for mypy
        sent = self._checked(self._chat.rendered(exchange), tokens)
        return RemoteInput(tokens.input_ids, flags=tokens.flags, sent=sent)

    def _of_chat(self, exchange: Exchange) -> Tokens:
        assert self._chat is not None  # noqa: S101 - for mypy
        return self._chat(exchange)

    def _checked(self, text: str, tokens: Tokens) -> str:
        """`text`, or what is left of it without the first special token, that becomes `tokens` on the server."""
        expected = list(tokens.input_ids)
        for candidate in (text.removeprefix(self._tokenizer.bos_token or ""), text):
            if self._tokenizer(candidate, verbose=False)["input_ids"] == expected:
                return candidate
        raise ValueError(
            "as one text, the server would read other tokens: it is too long, or has the name of a special token; "
            "servers that take send=ids score it"
        )


def _messages(exchange: Exchange) -> RemoteInput:
    messages = conversation(exchange)
    return RemoteInput(_estimated(*(message["content"] for message in messages)), sent=messages)


def _pair(exchange: Exchange) -> RemoteInput:
    sent = [pair_prompt(exchange), exchange.response]
    return RemoteInput(_estimated(*sent), flags=pair_flags(exchange), sent=sent)


def _estimated(*texts: str) -> list[int]:
    return [0] * (sum(map(len, texts)) // _CHARS_PER_TOKEN + 1)
