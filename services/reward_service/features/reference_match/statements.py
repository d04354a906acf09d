"""What a response states: its sentences, the answers that it announces, what it rejects or leaves open."""

from __future__ import annotations

import re
from collections.abc import Callable

from reward_service.features.reference_match.plain import key

_ANSWER = re.compile(
    r"\b(?:answer|solution|(?:correct|right|best) (?:option|choice|one))\b"
    r"(?:[^.\n:=?!]{0,60}?\b(?:is|would be|are)\b|\s?[:=])\s*:?",
    re.IGNORECASE,
)
"""Announces the answer: "the answer is", "Answer:", "The correct option would be"."""

_LABEL_ALONE = re.compile(r"\b(answer|solution)(\s?:)\s+", re.IGNORECASE)
_ENUMERATED = re.compile(r"[ \t]{0,12}(\d{1,2})[.)][ \t]")
_BULLET = re.compile(r"[ \t]{0,12}[-*•+–][ \t]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|mr|mrs|dr|st|no|vs|approx|ca|prof|jr|sr|e\.g|i\.e)\.$", re.IGNORECASE
)
_RETRACTION = re.compile(
    r"\b(?:wait|actually|correction|on second thought|(?P<rejects>scratch that|i made an? (?:mistake|error)|"
    r"(?:that|this|it)(?: is|'s) (?:not (?:right|correct)|wrong|incorrect))|"
    r"(?<=[.!] )no,(?= (?:it|that)(?:'s| is)\b))(?!\w)[,:.!]?",
    re.IGNORECASE,
)

_MAX_AROUND = 100
"""Characters; a longer text that contains the reference may say more than that."""
_DENIAL = frozenset(("not", "never", "wrong", "false", "incorrect", "untrue", "t"))
"""The "t" is that of "isn't"."""

HEDGE = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|alternatively|could be|might be|may be|oder|ou)\b", re.IGNORECASE
)
NEGATED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot be|rather than|instead of|other than|unlike|except)|n't)"
    r"(?:\s(?!but\b|so\b|and\b|or\b|then\b|therefore\b|hence\b|thus\b|because\b|only\b)[a-z]{1,15}){0,3}\s*[\"'(\[]*$",
    re.IGNORECASE,
)
NEGATED_AFTER = re.compile(
    r"[\s\"')\]]{0,3}(?:\w{1,15}\s)?"
    r"(?:(?:is|are|was|were|would be|seems)(?:\s(?:clearly|certainly|also|simply))?\s"
    r"(?:not|wrong|incorrect|false|too (?:large|small|high|low|big))\b|(?:is|are|was|were|ca)n't\b|cannot be\b)",
    re.IGNORECASE,
)
REASON = re.compile(
    r"[,;(]?\s?\b(?:because|since|given that|which|whereas|while|compared (?:to|with)|as it|as the)\b",
    re.IGNORECASE,
)
CONCLUSION = re.compile(
    r"\W*(?:so|therefore|thus|hence|in total|altogether|finally|in conclusion|overall)\b", re.IGNORECASE
)
LINK = re.compile(
    r"\b(?:is|are|was|were|be|has|have|had|equals?|equal to|makes?|gives?|giving|get|leaves?|so|therefore|thus|"
    r"hence|to|total of|costs?|weighs?|by|on|in)\b|:",
    re.IGNORECASE,
)
CONTRAST = re.compile(
    r"\b(?:but|however|yet|instead|so|therefore|thus|hence|together|in total|that is)\b|;",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    """The sentences of `text`, without list markers; one that starts with "or" stays with the one before."""
    found: list[str] = []
    for line in without_markers(_LABEL_ALONE.sub(r"\1\2 ", text).splitlines()):
        for place, piece in enumerate(_SENTENCE_END.split(line.strip())):
            continues = place > 0 and found and _ABBREVIATION.search(found[-1][-8:])
            if found and piece and (continues or piece[:3].lower() == "or "):
                found[-1] += f" {piece}"
            elif key(piece):
                found.append(piece)
    return found


def without_markers(lines: list[str]) -> list[str]:
    """`lines` without bullets, and without numbers that count up from 1 over at least two lines."""
    markers = [_ENUMERATED.match(line) for line in lines]
    numbers = {int(marker[1]) for marker in markers if marker}
    is_list = {1, 2} <= numbers
    stripped = []
    for line, marker in zip(lines, markers, strict=True):
        bullet = _BULLET.match(line)
        if marker and is_list and (int(marker[1]) == 1 or int(marker[1]) - 1 in numbers):
            line = line[marker.end() :]
        elif bullet:
            line = line[bullet.end() :]
        stripped.append(line)
    return stripped


def asserted(text: str, prompt: str) -> list[str]:
    """The sentences of `text` that assert something: no questions, and none that repeat one of the prompt."""
    said = sentences(text)
    echoed = {key(sentence) for sentence in sentences(prompt)}
    statements = [sentence for sentence in said if not sentence.endswith("?")]
    return [sentence for sentence in statements if key(sentence) not in echoed] or statements


def announced(sentence: str) -> list[str]:
    """What follows each "the answer is" or "Answer:" in `sentence`, up to the next one."""
    cues = list(_ANSWER.finditer(sentence))
    ends = [*(cue.start() for cue in cues[1:]), len(sentence)]
    return [sentence[cue.end() : end] for cue, end in zip(cues, ends, strict=False)]


def last_correction(text: str, answers: Callable[[str], bool]) -> str:
    """The part of `text` after its last retraction, such as "actually"; otherwise all of it.

    `answers` has to accept the part, or, after "that is wrong", the text before.
    """
    retractions = list(_RETRACTION.finditer(text))
    if not retractions:
        return text
    before, rest = text[: retractions[-1].start()], text[retractions[-1].end() :]
    rejected = retractions[-1]["rejects"] and key(rest) and answers(before)
    return rest if rejected or answers(rest) else text


def denies(text: str, reference: str) -> bool:
    """Whether `text` is `reference` with a few words around it that reject it: "… would be wrong"."""
    if len(text) > len(reference) + _MAX_AROUND:
        return False
    said, stated = key(text), key(reference)
    if not stated or stated not in said:
        return False
    around = said.replace(stated, " ").split()
    return not _DENIAL.isdisjoint(around)
