"""What a prompt requests of the answer's length or form, and how well a number meets a request."""

from __future__ import annotations

from collections.abc import Sequence

from reward_client.wire import ChatMessage

_EDGE_CHARS = 1000
"""Characters at each end of a prompt that are read: requests are written before or after the material."""

_INPUT_MARK = "### Input:"


def last_request(messages: Sequence[ChatMessage]) -> str:
    """The instruction in the last message of the user; empty without one."""
    return instruction(last_message(messages))


def last_message(messages: Sequence[ChatMessage]) -> str:
    """The last message of the user; empty without one."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


def adherence(n: float, low: float, high: float) -> float:
    """How well `n` is in the requested interval, from 0 to 1: n / low below it, (high / n)² above it."""
    return (high / n) ** 2 if n > high else min(1.0, n / low)


def instruction(prompt: str) -> str:
    """`prompt` without an input text of the Alpaca template, and without the middle of a long text."""
    text = prompt.partition(_INPUT_MARK)[0]
    if len(text) <= 2 * _EDGE_CHARS:
        return text
    return f"{text[:_EDGE_CHARS]}\n{text[-_EDGE_CHARS:]}"
