"""What is read of a prompt: the text for the encoder, and what the last message requests.

Source of `prompt_text`: the conventions of the paper's published data.
"""

from __future__ import annotations

from collections.abc import Sequence

from reward_client.wire import ChatMessage

_EDGE_CHARS = 1000
"""Characters at each end of a request that are read: requests are written before or after the material."""


def prompt_text(messages: Sequence[ChatMessage]) -> str:
    """The encoder's input for the prompt: all user messages, without the markers of the Alpaca template."""
    text = " ".join(message.content for message in messages if message.role == "user")
    text = text.replace("### Input:\n", " ").replace("</s>", "").replace("\n ", "\n").replace(" : ", " ")
    return _with_single_spaces(text.strip("\n: "))


def _with_single_spaces(text: str) -> str:
    r"""`re.sub(r"\s+", " ", text)`, several times as fast, because it holds the interpreter's lock."""
    words = text.split()
    if not words:
        return " " if text else ""
    return f"{' ' * text[0].isspace()}{' '.join(words)}{' ' * text[-1].isspace()}"


def last_message(messages: Sequence[ChatMessage]) -> str:
    """The last message of the user; empty without one."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


def last_request(messages: Sequence[ChatMessage]) -> str:
    """The last message, without an input text of the Alpaca template, and without the middle of a long text."""
    text = last_message(messages).partition("### Input:")[0]
    if len(text) <= 2 * _EDGE_CHARS:
        return text
    return f"{text[:_EDGE_CHARS]}\n{text[-_EDGE_CHARS:]}"
