"""Text processing of the reward: the evaluated part of a response, words, and the text of a prompt.

Pure functions of strings. Source: Kim & Seo, "Rethinking the Role of Proxy Rewards in Language Model
Alignment" (EMNLP 2024), and the conventions of its published data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import regex

from reward_client.wire import ChatMessage

PAPER_STOP_STRINGS = ("### Instruction:", "### Response:", "\n\n\n\n", "\n\n--", "\n\n____")
"""Ends of an answer in the paper; Markdown has the last three too."""

DEFAULT_STOP_STRINGS = ("### Instruction:", "### Response:", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "</s>")
"""Ends of a turn in chat templates; text after them is a made-up next turn."""

_WORD = regex.compile(r"\w+|[^\w\s]+")
"""NLTK's wordpunct tokenization. `\\w` is that of `regex`: combining marks and variation selectors belong to words
(the standard library's `re` splits there), and unspaced Chinese or Japanese text is one word."""

_EDGES = "\n "


def clean_response(response: str, stop_strings: Iterable[str]) -> str:
    """The evaluated part of `response`: stripped, cut at the first stop string, stripped again."""
    text = response.strip(_EDGES)
    starts = [start for stop in stop_strings if (start := text.find(stop)) >= 0]
    return text[: min(starts, default=len(text))].strip(_EDGES)


def words(text: str) -> list[str]:
    """Words and runs of punctuation, in order; `don't` gives three."""
    return _WORD.findall(text)


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
