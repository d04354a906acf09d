"""The text of a prompt that the encoder reads. Source: the conventions of the paper's published data."""

from __future__ import annotations

from collections.abc import Sequence

from reward_client.wire import ChatMessage


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
