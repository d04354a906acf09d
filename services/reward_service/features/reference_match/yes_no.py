"""Yes and no, true and false: a negated "true" is "false", and the other way round."""

from __future__ import annotations

import re
from collections.abc import Callable

from reward_service.features.reference_match.plain import boxed, key, plain, unboxed, window, words_of
from reward_service.features.reference_match.statements import (
    NEGATED_AFTER,
    NEGATED_BEFORE,
    REASON,
    announced,
    asserted,
    last_correction,
    sentences,
)

_VALUES = {
    **dict.fromkeys(("yes", "true", "correct", "yeah", "yep"), True),
    **dict.fromkeys(("no", "false", "incorrect", "untrue", "nope"), False),
}
_NO = (
    r"no(?=\s?(?:[.,;:!)\"'/—-]|$|\s(?:it|they|he|she|this|that|because|since|the|there|yes|and|or|also|"
    r"actually|not)\b))"
)
_MENTION = re.compile(rf"\b(?:yes|true|false|correct|incorrect|untrue|{_NO})\b", re.IGNORECASE)
_INFORMAL = re.compile(r"(?:yeah|yep|nope)\b", re.IGNORECASE)
_EMPHATIC = re.compile(
    r"\W*(?:absolutely|definitely|certainly|of course|indeed|surely|it (?:is|does|can))"
    r"(?P<no>\s(?:not|can't))?\s?[,.!]",
    re.IGNORECASE,
)
_UNSURE = re.compile(r"\b(?:may|might|maybe|perhaps|possibly|could|or)\b", re.IGNORECASE)
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
    in_boxes = [value for content in boxed(text) for value in _values(plain(content))]
    text = plain(unboxed(text))
    said = asserted(last_correction(text, lambda part: bool(_values(part))), prompt)
    firm = in_boxes or [value for sentence in said for tail in announced(sentence) for value in _values(tail)]
    chosen = firm + _leading(said)
    if not chosen:
        sure = [sentence for sentence in reversed(said) if not _UNSURE.search(sentence)]
        stated = next((values for sentence in sure if (values := _values(sentence))), [])
        chosen = stated or _restated(said, prompt) or _emphatic(said)
    return chosen[0] if chosen and len(set(chosen)) == 1 else None


def _leading(said: list[str]) -> list[bool]:
    """The values of the first sentence if it begins with one, and those of sentences that are nothing but one."""
    bare = [value for sentence in said if len(sentence.split()) <= 2 for value in _values(sentence)]
    first = said[0].lstrip(" \"'(") if said else ""
    if informal := _INFORMAL.match(first):
        return [_VALUES[informal[0].lower()], *bare]
    return bare + (_values(first) if _MENTION.match(first) else [])


def _emphatic(said: list[str]) -> list[bool]:
    """The value of a first sentence such as "Absolutely not." or "Of course!"."""
    found = _EMPHATIC.match(said[0]) if said else None
    return [not found["no"]] if found else []


def _values(text: str) -> list[bool]:
    """The values in `text` up to its reason; negated ones are turned round."""
    reason = REASON.search(text)
    if reason and _MENTION.search(text[: reason.start()]):
        text = text[: reason.start()]
    text = _ATTRIBUTE.sub(" ", text)
    return [_VALUES[match[0].lower()] is not _is_negated(text, match) for match in _MENTION.finditer(text)]


def _is_negated(text: str, match: re.Match[str]) -> bool:
    before = NEGATED_BEFORE.search(text[max(0, match.start() - 30) : match.start()])
    return bool(before) or NEGATED_AFTER.match(text, match.end()) is not None


def _restated(said: list[str], prompt: str) -> list[bool]:
    """The answer of the first sentence that restates the question: "Penguins cannot fly" means no."""
    asked = next((sentence for sentence in sentences(prompt) if sentence.endswith("?")), "")
    words = key(asked).split()
    content = [word for word in words if word not in _STOP]
    for sentence in said:
        stated = key(REASON.split(sentence)[0]).replace("cannot", "can not").replace("can t ", "can not ").split()
        if not words or not content or words[0] not in stated or len(stated) > len(words) + 2:
            continue
        aux = stated.index(words[0])
        has_subject = len(content) == 1 or set(content) & set(stated[:aux])
        if has_subject and set(content) & set(stated[aux:]) and set(content) <= set(stated):
            return [not _NEGATION.search(sentence)]
    return []
