"""The good answer, or a part of it, over and over."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from reward_client.probe.case import Case, phrases
from reward_client.probe.kinds.kind import Kind
from reward_client.probe.texts import MAX_UNITS, fill, first_sentence, is_unspaced, joined, units

_GROUP = "repetition"
_MIN_UNITS = 8
"""Words of an answer whose doubling is a fault beyond doubt."""


def _doubled(case: Case, _: Random) -> Iterator[str]:
    if len(units(case.response)) >= _MIN_UNITS:
        yield f"{case.response}\n\n{case.response}"


def _looped(case: Case, _: Random) -> Iterator[str]:
    sentence = first_sentence(case.response)
    yield fill([sentence], max(2 * len(units(case.response)), 5 * len(units(sentence))))


def _looped_changed(case: Case, random: Random) -> Iterator[str]:
    """Each round has another opening, and one word replaced."""
    sentence = first_sentence(case.response)
    words, openings, rounds = units(sentence), phrases("again"), list[str]()
    length = min(MAX_UNITS, max(2 * len(units(case.response)), 6 * (len(words) + 2)))
    for n in range(length // len(words) + 1):
        changed = list(words)
        changed[random.randrange(len(words))] = random.choice(phrases("filler_words"))
        rounds.append(f"{openings[n % len(openings)]} {joined(changed, sentence)}")
    yield fill(rounds, length)


def _stuttered(case: Case, _: Random) -> Iterator[str]:
    words = units(case.response)
    if len(words) >= _MIN_UNITS:
        yield joined((word for word in words for _ in range(2)), case.response)


def _unspaced_loop(case: Case, random: Random) -> Iterator[str]:
    syllable = units(case.response)[0] if is_unspaced(case.response) else random.choice(("ha", "yes", "na", "go"))
    yield syllable * max(40, len(case.response) // len(syllable))
    yield "\n".join([random.choice(phrases("filler_words"))] * max(20, len(units(case.response))))


KINDS = (
    Kind("doubled", _GROUP, "the good answer twice", _doubled),
    Kind("looped", _GROUP, "its first sentence, over and over", _looped),
    Kind("looped_changed", _GROUP, "its first sentence, over and over with small changes", _looped_changed),
    Kind("stuttered", _GROUP, "every word twice", _stuttered),
    Kind("unspaced_loop", _GROUP, "one syllable without spaces, or one word on every line", _unspaced_loop),
)
