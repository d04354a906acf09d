"""Yes and no, true and false: a negated "true" is "false", and the other way round."""

from __future__ import annotations

import re
from collections.abc import Callable

from reward_service.features.reference_match.plain import boxed, key, plain, unboxed, window, words_of
from reward_service.features.reference_match.statements import (
    NEGATED_BEFORE,
    REASON,
    announced,
    asserted,
    last_correction,
)

_VALUES = {
    **dict.fromkeys(("yes", "true", "correct", "yeah", "yep"), True),
    **dict.fromkeys(("no", "false", "incorrect", "untrue", "nope"), False),
}
_MENTION = re.compile(
    r"\b(?:yes|yeah|yep|nope|true|false|correct|incorrect|untrue|no(?=\s?(?:[.,;:!)\"'/—-]|$|\s(?:it|they|he|she|this|that|because|"
    r"since|the|there|yes|and|or|actually|not)\b)))\b",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"\b(?:correct|true|right)\s(?:answer|statement|option|choice)\b", re.IGNORECASE)
_STOP = frozenset(
    words_of(
        "is are was were be been do does did can could will would should has have had may might must a an the "
        "to of in on at it this that there or and true false yes no not question statement answer following any"
    )
)
_NEGATION = re.compile(r"\b(?:not|never|no|cannot|none|neither|nobody|nothing)\b|n't\b", re.IGNORECASE)


def read_yes_no(reference: str, prompt: str) -> Callable[[str], bool] | None:
    """The judge of responses to a reference that is yes, no, true or false; None otherwise."""
    wanted = {"yes": True, "no": False, "true": True, "false": False}.get(key(unboxed(reference)))
    if wanted is None:
        return None
    asked = plain(prompt)
    return lambda response: says(response, asked) is wanted


def says(response: str, prompt: str) -> bool | None:
    """What `response` answers to the yes-no question `prompt`; None if nothing, or both."""
    text = window(response)
    in_boxes = [value for content in boxed(text) for value in _values(content)]
    text = plain(unboxed(text))
    corrected = last_correction(text)
    said = asserted(corrected if _values(corrected) else text, prompt)
    firm = in_boxes or [value for sentence in said for tail in announced(sentence) for value in _values(tail)]
    leading = _leading(said)
    chosen = firm + leading
    if not chosen:
        last = next((values for sentence in reversed(said) if (values := _values(sentence))), [])
        chosen = last or _restated(said, prompt)
    return chosen[0] if chosen and len(set(chosen)) == 1 else None


def _leading(said: list[str]) -> list[bool]:
    """The values of the first sentence if it begins with one, and those of sentences that are nothing but one."""
    bare = [value for s in said if len(s.split()) <= 2 for value in _values(s)]
    first = _MENTION.match(said[0].lstrip(" \"'(")) if said else None
    return ([_VALUES[first[0].lower()], *_second(said[0])] if first else []) + bare


def _second(sentence: str) -> list[bool]:
    """The values that are joined to the first word of `sentence` by "and", "or", "," or a slash."""
    return [
        _VALUES[m[1].lower()]
        for m in re.finditer(
            r"(?:\band|\bor|,|/|\byes|\bno)\s?(?:maybe\s|actually\s)?(yes|no|true|false)\b(?!\s\w)",
            sentence,
            re.IGNORECASE,
        )
    ]


def _values(text: str) -> list[bool]:
    """The values in `text` up to its reason; negated ones are turned round."""
    reason = REASON.search(text)
    if reason and _MENTION.search(text[: reason.start()]):
        text = text[: reason.start()]
    text = _ATTRIBUTE.sub(" ", text)
    return [
        _VALUES[match[0].lower()]
        is not bool(NEGATED_BEFORE.search(text[max(0, match.start() - 30) : match.start()]))
        for match in _MENTION.finditer(text)
    ]


def _restated(said: list[str], prompt: str) -> list[bool]:
    """The first sentence with all content words of the question, as yes, or as no if it has a negation more."""
    asked = {word for word in key(prompt).split() if word not in _STOP}
    for sentence in said:
        if asked and asked <= set(key(sentence).split()):
            return [len(_NEGATION.findall(sentence)) % 2 == len(_NEGATION.findall(prompt)) % 2]
    return []
