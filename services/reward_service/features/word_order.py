"""`word_order`: the share of English determiners that a word follows which they can determine.

"the", "a", "an", "my", "your", "our", "their" need a noun, an adjective or an adverb after them, never a
preposition, a conjunction, a verb such as "is", another determiner, or the end of a sentence. Ordinary text has
1.0, words in random order about a half. Text without determiners has 1.0: the feature says nothing about other
languages. Cost: linear in the response.
"""

from __future__ import annotations

import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.languages import FUNCTION_WORDS

_DETERMINERS = frozenset(("the", "a", "an", "my", "your", "our", "their"))
_MAY_FOLLOW = frozenset(
    ("other", "one", "more", "most", "any", "all", "only", "very", "just", "so", "not", "out", "up")
)
_NEVER_FOLLOW = FUNCTION_WORDS["english"] - _MAY_FOLLOW
_TOKEN = regex.compile(r"[^\W\d_]+|[.!?,;:]|\d+|[^\s\w]")


def word_order(text: str) -> float:
    """Share of determiners with a possible next word; 1 without determiners."""
    tokens = _TOKEN.findall(text.lower())
    followers = [after for word, after in zip(tokens, [*tokens[1:], "."], strict=False) if word in _DETERMINERS]
    if not followers:
        return 1.0
    return 1.0 - sum(after in _NEVER_FOLLOW or after in ".!?,;:" for after in followers) / len(followers)


WORD_ORDER = Feature(
    name="word_order",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Word order",
    description="share of determiners (the, a, my …) that are followed by a word they can determine",
    log_key="word_order",
    compute=lambda inputs: word_order(inputs.response),
)
