"""Stop strings: where a response ends although its text goes on, because the policy wrote the next turn itself."""

from __future__ import annotations

from collections.abc import Iterable

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


def clean_response(response: str, stop_strings: Iterable[str]) -> str:
    """The evaluated part of `response`: stripped, cut at the first stop string, stripped again."""
    text = response.strip(_EDGES)
    end = len(text)
    for stop in stop_strings:
        start = text.find(stop, 0, end + len(stop))
        end = start if start >= 0 else end
    return text[:end].strip(_EDGES)


def is_cut(response: str, cleaned: str) -> bool:
    """Whether `clean_response` found a stop string in `response`."""
    return len(cleaned) < len(response.strip(_EDGES))
