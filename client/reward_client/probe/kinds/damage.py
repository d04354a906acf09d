"""The good answer, damaged: cut, words in disorder, letters in disorder."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from reward_client.probe.case import Case
from reward_client.probe.kinds.kind import Kind
from reward_client.probe.texts import joined, units

_GROUP = "damage"
_MIN_CUT = 30
"""Words of an answer whose first third is clearly too little."""
_MIN_SHUFFLED = 8


def _cut(case: Case, _: Random) -> Iterator[str]:
    words = units(case.response)
    if case.reference is None and len(words) >= _MIN_CUT:
        kept = words[: len(words) * 3 // 10]
        yield joined([*kept[:-1], kept[-1].rstrip(".!?。！？")], case.response)


def _words_shuffled(case: Case, random: Random) -> Iterator[str]:
    words = units(case.response)
    if len(set(words)) >= _MIN_SHUFFLED:
        yield joined(random.sample(words, len(words)), case.response)


def _letters_shuffled(case: Case, random: Random) -> Iterator[str]:
    """Letters of each word in disorder; in a script without spaces, those of each ten characters."""
    words = units(case.response)
    if len(words) >= _MIN_SHUFFLED:
        whole = joined(words, case.response)
        pieces = words if " " in whole else [whole[i : i + 10] for i in range(0, len(whole), 10)]
        yield joined(("".join(random.sample(piece, len(piece))) for piece in pieces), case.response)


KINDS = (
    Kind("cut", _GROUP, "cut in the middle of a sentence, after a third", _cut),
    Kind("words_shuffled", _GROUP, "its words in random order", _words_shuffled),
    Kind("letters_shuffled", _GROUP, "the letters of each word in random order", _letters_shuffled),
)
