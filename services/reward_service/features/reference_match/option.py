"""Options of a multiple choice: the letter, the letter with its text, or the text as the prompt lists it."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from reward_service.features.reference_match.decision import Mention, Question, commits_to
from reward_service.features.reference_match.plain import key, plain, unboxed

_MARKER = re.compile(r"(?<![\w.])[(\[]?([A-Ja-j1-9])[)\].:](?=[ \t]?\S)")
_REFERENCE = re.compile(r"[(\[]?([A-Ja-j1-9])(?:[)\].:]+\s*(.{0,300})|\s?)", re.DOTALL)
_LETTER = re.compile(
    r"(?<![\w'])(?:(?:[(\[](?P<round>[A-Ja-j1-9])[)\]])|(?:(?P<marked>[A-Ja-j1-9])[).:](?=[\s,]|$))|"
    r"(?:\b(?i:option|answer|choice|letter|statement)\s(?P<named>[A-Ja-j1-9])\b)|(?P<alone>[A-Ja-j1-9])(?![\w'.:)-]))"
)
_ALONE_CONTEXT = re.compile(
    r"(?:^|\b(?:is|are|option|answer|choose|pick|select|and|or|both|not)|[:,=/])\s?\(?[\"'*]?$", re.IGNORECASE
)
_ALONE_FOLLOW = re.compile(
    r"[\"'*]?(?:[\s.,;!?/]*$|\s?[,/.;=]|\s(?:is|are|and|or|because|since)\b)", re.IGNORECASE
)


def read_option(reference: str, prompt: str) -> Callable[[str], bool] | None:
    """The judge of responses to a reference that is an option's letter or text."""
    text = plain(unboxed(reference)).strip()
    asked = plain(prompt)
    letter, options = _wanted(text, option_lists(asked))
    if letter is None:
        return None
    letters = set(options) or set("ABCDEFGHIJ")
    labels = {
        _spaced(text): label
        for label, text in options.items()
        if key(text) and text.strip().upper() not in letters
    }
    names = _names(labels)

    def find(text: str) -> list[Mention[str]]:
        return find_options(text, letters, names, labels)

    given = set() if options else {mention.value for mention in find(asked)}
    question = Question(
        asked, find, lambda value: value == letter, lambda value: value in given, _block(asked, options)
    )
    return lambda response: commits_to(question, response)


def _block(prompt: str, options: dict[str, str]) -> str:
    """The part of `prompt` from its first option to its last."""
    marker = _MARKER.search(prompt)
    last = list(options.values())[-1] if options else ""
    return prompt[marker.start() : prompt.rfind(last) + len(last)] if marker and last else ""


def option_lists(prompt: str) -> list[dict[str, str]]:
    """The lists of options in `prompt`, text by label: labels count up from A, a or 1."""
    lists: list[dict[str, str]] = []
    markers = list(_MARKER.finditer(prompt))
    current: list[re.Match[str]] = []
    for marker in [*markers, None]:
        follows = marker and current and ord(marker[1]) == ord(current[-1][1]) + 1
        if current and not follows:
            if len(current) > 1 and current[0][1] in "Aa1":
                lists.append(_texts(prompt, current))
            current = []
        if marker and (follows or marker[1] in "Aa1"):
            current.append(marker)
    return lists


def _texts(prompt: str, markers: list[re.Match[str]]) -> dict[str, str]:
    texts = {
        marker[1].upper(): prompt[marker.end() : following.start()] for marker, following in pairwise(markers)
    }
    last = prompt[markers[-1].end() : markers[-1].end() + 300].strip()
    texts[markers[-1][1].upper()] = re.split(r"\n|(?<=[.!?])\s|[.]\s", last)[0]
    return {label: text.strip(" \n\t.,;") for label, text in texts.items()}


def _wanted(reference: str, lists: list[dict[str, str]]) -> tuple[str | None, dict[str, str]]:
    """The label that `reference` means, and the list that has it."""
    shape = _REFERENCE.fullmatch(reference)
    for options in lists:
        if shape and (label := shape[1].upper()) in options:
            text = key(shape[2] or "")
            if not text or text == key(options[label]):
                return label, options
        for label, text in options.items():
            if key(text) and key(text) == key(reference):
                return label, options
    if shape and not lists and shape[1] in "ABCDEFGHIJ" and not shape[2]:
        return shape[1], {}
    if shape and not lists and shape[2] and shape[1] in "ABCDEFGHIJ" and len(shape[2]) < 80:
        return shape[1], {shape[1]: shape[2]}
    return None, {}


def find_options(
    text: str, letters: set[str], names: re.Pattern[str] | None, labels: dict[str, str]
) -> list[Mention[str]]:
    """The options that `text` names, by letter or by their text."""
    found = [m for match in _LETTER.finditer(text) if (m := _letter(text, match)) and m.value in letters]
    if names:
        found += [Mention(m.start(), m.end(), labels[_spaced(m[0])]) for m in names.finditer(text)]
    found.sort(key=lambda mention: (mention.start, -mention.end))
    kept: list[Mention[str]] = []
    for mention in found:
        if not kept or mention.start >= kept[-1].end:
            kept.append(mention)
    return kept


def _names(labels: dict[str, str]) -> re.Pattern[str] | None:
    """Finds the options' texts, the longest first where one contains another."""
    by_length = sorted(labels, key=len, reverse=True)
    pattern = "|".join(r"\s+".join(map(re.escape, name.split())) for name in by_length)
    return re.compile(rf"(?<![\w.,])(?:{pattern})(?!\w|[.,]\d)", re.IGNORECASE) if labels else None


def _spaced(text: str) -> str:
    return " ".join(text.split()).casefold()


def _letter(text: str, match: re.Match[str]) -> Mention[str] | None:
    """The letter of `match`, unless it is a word, such as the article "a"."""
    kind = match.lastgroup or ""
    letter = match[kind]
    if kind == "alone":
        before, after = (
            _ALONE_CONTEXT.search(text[max(0, match.start() - 20) : match.start()]),
            _ALONE_FOLLOW.match(text, match.end()),
        )
        if not (letter in "BCDEFGHJ" or (after and before)):
            return None
    if (
        kind == "marked"
        and letter.islower()
        and text[match.end() - 1] != ")"
        and not _ALONE_CONTEXT.search(text[max(0, match.start() - 20) : match.start()])
    ):
        return None
    return Mention(match.start(), match.end(), letter.upper())
