"""Text as the reward sees it: what counts as the response, as a word, and as the prompt.

Pure functions of strings. Source: Kim & Seo, "Rethinking the Role of Proxy Rewards in Language Model
Alignment" (EMNLP 2024), and the conventions of its published data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import regex

from reward_client.wire import ChatMessage

__all__ = ["DEFAULT_STOP_STRINGS", "clean_response", "prompt_text", "words"]

DEFAULT_STOP_STRINGS = ("### Instruction:", "### Response:", "\n\n\n\n", "\n\n--", "\n\n____")
"""Where the default (Alpaca) template lets an answer end: what follows is the model talking to itself."""

_WORD = regex.compile(r"\w+|[^\w\s]+")
"""NLTK's wordpunct tokenization. `\\w` is Unicode's, as `regex` reads it: combining marks and variation selectors
belong to words (the standard library's `re` splits there); an unspaced run of Chinese or Japanese is one word."""

_EDGES = "\n "


def clean_response(response: str, stop_strings: Iterable[str]) -> str:
    """The part of `response` that counts: stripped, cut at the first stop string, stripped again."""
    text = response.strip(_EDGES)
    starts = [start for stop in stop_strings if (start := text.find(stop)) >= 0]
    return text[: min(starts, default=len(text))].strip(_EDGES)


def words(text: str) -> list[str]:
    """Words and runs of punctuation, in order; `don't` is three of them."""
    return _WORD.findall(text)


def prompt_text(messages: Sequence[ChatMessage]) -> str:
    """What the encoder reads for the prompt: all user turns, without the marks of the Alpaca template."""
    text = " ".join(message.content for message in messages if message.role == "user")
    text = text.replace("### Input:\n", " ").replace("</s>", "").replace("\n ", "\n").replace(" : ", " ")
    return re.sub(r"\s+", " ", text.strip("\n: "))
