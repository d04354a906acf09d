"""Reasoning in a response: `<think>…</think>`, apart from the answer.

A closing tag without an opening one ends a thought that the prompt opened, so everything before it is thought. A
thought without a closing tag goes on to the end. A tag in quotes or backticks is mentioned, and not meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from reward_client.wire import ChatMessage

ReasoningPolicy = Literal["drop", "flag", "keep"]
"""What happens with reasoning: it is dropped and flagged, counts as answer and is flagged, or counts as answer."""


class Reasoning(NamedTuple):
    """A response, split into answer and reasoning."""

    answer: str
    thoughts: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """`reasoning`: there is some. `unfinished_reasoning`: the last thought has no end."""
    answer_ranges: tuple[tuple[int, int], ...] = ()
    """The parts [start, end) of the response that `answer` consists of."""


_TAG = re.compile(r"(?<![`'\"])<(/?)think(?:ing)?>(?![`'\"])")
_OPENED = re.compile(r"<think(?:ing)?>\s*\Z")


def split_reasoning(text: str, *, opened: bool = False) -> Reasoning:
    """Split `text`; `opened` is whether the prompt opened a thought."""
    answer: list[tuple[int, int]] = []
    thoughts: list[str] = []
    start, thinking = 0, opened
    for tag in _TAG.finditer(text):
        closes = bool(tag[1])
        if thinking and not closes:
            continue
        part = text[start : tag.start()]
        if not closes:
            answer.append((start, tag.start()))
        elif thinking:
            thoughts.append(part)
        else:
            thoughts.append(_joined(text, answer) + part)
            answer.clear()
        start, thinking = tag.end(), not closes
    if thinking:
        thoughts.append(text[start:])
    else:
        answer.append((start, len(text)))
    flags = ("reasoning", *(["unfinished_reasoning"] if thinking else [])) if thoughts else ()
    return Reasoning(_joined(text, answer), tuple(thoughts), flags, tuple(answer))


def _joined(text: str, ranges: Sequence[tuple[int, int]]) -> str:
    return "".join(text[start:end] for start, end in ranges)


def opens_reasoning(messages: Sequence[ChatMessage]) -> bool:
    """Whether the prompt ends with an opening tag, so that the response begins with reasoning."""
    return bool(messages) and _OPENED.search(messages[-1].content[-64:]) is not None
