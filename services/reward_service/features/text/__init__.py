"""Text processing of the reward: what is read of a response and of a prompt, and words. Pure functions of strings.

Source of the paper's rules: Kim & Seo, "Rethinking the Role of Proxy Rewards in Language Model Alignment" (EMNLP
2024).
"""

from reward_service.features.text.prompt import last_message, last_request, prompt_text
from reward_service.features.text.reading import (
    DEFAULT_STOP_STRINGS,
    PAPER_STOP_STRINGS,
    Reading,
    ReadingRules,
    clean_response,
    read_response,
)
from reward_service.features.text.reasoning import Reasoning, ReasoningPolicy, opens_reasoning, split_reasoning
from reward_service.features.text.visible import is_blank, visible
from reward_service.features.text.words import WordKind, words

__all__ = [
    "DEFAULT_STOP_STRINGS",
    "PAPER_STOP_STRINGS",
    "Reading",
    "ReadingRules",
    "Reasoning",
    "ReasoningPolicy",
    "WordKind",
    "clean_response",
    "is_blank",
    "last_message",
    "last_request",
    "opens_reasoning",
    "prompt_text",
    "read_response",
    "split_reasoning",
    "visible",
    "words",
]
