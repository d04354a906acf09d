"""`word_order`: 1 − 5 × faults / words, at least 0: words in random order have many faults.

A fault is
    an English determiner (the, a, an, my …) without a word that it can determine: "the is", "a of", "my."
    a sentence that ends inside of another: "costs euros. the now"; not in a text without capital letters
    a comma inside of a word or before it: "tha,t", ",taht"

Fewer than 8 words have no faults. Code, between fences or single back-ticks, does not count. Cost: linear.
"""

from __future__ import annotations

import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.languages import FUNCTION_WORDS

_WEIGHT = 5
_MIN_WORDS = 8
"""A shorter answer may be a name, a formula or a list."""
_MAY_FOLLOW = {"other", "one", "more", "most", "any", "all", "only", "very", "just", "so", "not", "out", "up"} | {
    *("why", "how", "who", "what", "when", "where", "over", "after", "before", "about", "no", "its", "i", "will"),
    *("can", "might", "must", "us", "do", "being", "a"),
}
"""Function words that are also nouns, or begin a compound: "the no", "the how and why", "an all-time high"."""
_CODE = regex.compile(r"```[^`]*(?:```|$)|`[^`\n]*`")
_DETERMINER = regex.compile(
    r"\b(?:the|an?|my|your|our|their) "
    rf"(?:{'|'.join(sorted(FUNCTION_WORDS['english'] - _MAY_FOLLOW))})(?![\w'’-])"
    r"|\b(?:the|an|my|your|our|their)[.!?,;:](?=\s|$)"
)
_INNER_END = regex.compile(
    r"(?<!\b(?:etc|vs|approx|incl|resp|bzw|usw|evtl|dept|fig|est|max|min|inc|ltd))"
    r"(?:(?<=[a-zß-ÿ]{3})|(?<=\d{4}))[.!?] [a-zß-ÿ]"
)
_WRONG_SIGN = regex.compile(r"[a-zß-ÿ]{2}[,;!?][a-zß-ÿ]{2}|\s[,;!?][a-zß-ÿ]")


def word_order(text: str) -> float:
    """1 − 5 × faults / words of `text`, at least 0."""
    text = _CODE.sub(" ", text) if "`" in text else text
    n_words = len(text.split())
    if n_words < _MIN_WORDS:
        return 1.0
    patterns = (_DETERMINER, _WRONG_SIGN) if text == text.lower() else (_DETERMINER, _WRONG_SIGN, _INNER_END)
    faults = sum(len(pattern.findall(text)) for pattern in patterns)
    return max(0.0, 1.0 - _WEIGHT * faults / n_words)


WORD_ORDER = Feature(
    name="word_order",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Word order",
    description="1 − 5 × faults / words, such as an article before a verb, or an end inside a sentence",
    log_key="word_order",
    compute=lambda inputs: word_order(inputs.response),
    reads_prompt=False,
)
