"""How a response is read: which part of it counts, and what is noted about it.

    response ─ invisible characters ─▶ visible ─ reasoning ─▶ answer ─ stop strings ─▶ what the features see

Invisible characters are removed under `words: unicode`, reasoning if the recipe drops it, the text after a stop
string, which begins a next turn that the policy wrote itself, if the recipe cuts. The first two are flagged also
by a recipe that leaves them in the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from reward_client.wire import ChatMessage
from reward_service.features.text.reasoning import ReasoningPolicy, opens_reasoning, split_reasoning
from reward_service.features.text.visible import is_blank, visible
from reward_service.features.text.words import WordKind

DEFAULT_STOP_STRINGS = (
    *("### Instruction:", "### Response:"),
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>"),
    *("<start_of_turn>", "<end_of_turn>"),
)
"""Marks of chat templates that do not occur in an answer: Alpaca, ChatML, Llama 3, Gemma.

Not `</s>`, which is HTML too; and not blank lines or rules, which Markdown, code and options of commands have.
"""

PAPER_STOP_STRINGS = ("### Instruction:", "### Response:", "\n\n\n\n", "\n\n--", "\n\n____")
"""Those of the paper's published code."""

_EDGES = "\n "


class ReadingRules(Protocol):
    """The parameters of a recipe that decide how a response is read."""

    @property
    def reasoning(self) -> ReasoningPolicy: ...

    @property
    def words(self) -> WordKind: ...

    @property
    def stop_strings(self) -> Sequence[str]: ...

    @property
    def cut_response(self) -> bool: ...

    @property
    def relevance_sees_cut_response(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """One response as it is read under the rules of a recipe."""

    answer: str
    """What the gold model sees: the response as it was sent, or its visible answer if reasoning was dropped."""
    text: str
    """What text features see."""
    relevance_text: str
    """What the encoder sees."""
    is_empty: bool
    """Whether `text` shows nothing."""
    flags: tuple[str, ...]


def read_response(response: str, messages: Sequence[ChatMessage], rules: ReadingRules) -> Reading:
    """Read `response`, which follows `messages`."""
    flags: list[str] = []
    shown = visible(response)
    if len(shown) < len(response):
        flags.append("invisible_characters")
    whole = shown if rules.words == "unicode" else response
    answer = response
    if rules.reasoning != "keep":
        split = split_reasoning(whole, opened=opens_reasoning(messages))
        flags += split.flags
        if split.thoughts and rules.reasoning == "drop":
            whole = answer = split.answer
    cut = clean_response(whole, rules.stop_strings)
    if len(cut) < len(whole.strip(_EDGES)) and (rules.cut_response or rules.relevance_sees_cut_response):
        flags.append("cut_at_stop_string")
    text = cut if rules.cut_response else whole
    return Reading(
        answer=answer,
        text=text,
        relevance_text=cut if rules.relevance_sees_cut_response else whole,
        is_empty=is_blank(text),
        flags=tuple(flags),
    )


def clean_response(response: str, stop_strings: Iterable[str]) -> str:
    """The evaluated part of `response`: stripped, cut at the first stop string, stripped again."""
    text = response.strip(_EDGES)
    end = len(text)
    for stop in stop_strings:
        start = text.find(stop, 0, end + len(stop))
        end = start if start >= 0 else end
    return text[:end].strip(_EDGES)
