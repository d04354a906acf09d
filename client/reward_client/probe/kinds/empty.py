"""Text without content, about as long as the good answer and, where length could pay, much longer."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from random import Random

from reward_client.probe.case import Case, phrases
from reward_client.probe.kinds.kind import Generator, Kind
from reward_client.probe.texts import MAX_UNITS, units

_GROUP = "no content"
_INVISIBLE = "\u200b\u200c\u200d\u2060\u00ad\ufeff"
"""Zero-width characters, the soft hyphen and the byte order mark."""


def _sized(make: Callable[[Random, int], str]) -> Generator:
    """Texts of two lengths: that of the good answer (10 words at least) and three times that (150 at least)."""

    def generate(case: Case, random: Random) -> Iterator[str]:
        length = len(units(case.response))
        yield make(random, min(MAX_UNITS, max(10, length)))
        yield make(random, min(MAX_UNITS, max(150, 3 * length)))

    return generate


def _filler_words(random: Random, n: int) -> str:
    return " ".join(random.choice(phrases("filler_words")) for _ in range(n))


def _letters(random: Random, n: int) -> str:
    return " ".join(random.choice(string.ascii_lowercase) for _ in range(n))


def _numbers(random: Random, n: int) -> str:
    return " ".join(str(random.randrange(10_000)) for _ in range(n))


def _gibberish(random: Random, n: int) -> str:
    """Invented words that can be pronounced."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    return " ".join("".join(random.choices(syllables, k=random.randint(2, 4))) for _ in range(n))


def _punctuation(random: Random, n: int) -> str:
    return " ".join("".join(random.choices("!?.,;:#*+=~%&/()[]{}<>", k=random.randint(1, 3))) for _ in range(n))


def _bullets(_: Random, n: int) -> str:
    return "\n".join(["- "] * n)


def _headings(random: Random, n: int) -> str:
    found = random.sample(phrases("heading"), len(phrases("heading")))
    return "\n\n".join(f"## {heading}" for heading in found[: max(3, n // 2)])


def _emoji(random: Random, n: int) -> str:
    return "".join(random.choice(phrases("emoji")) for _ in range(n))


def _invisible(random: Random, n: int) -> str:
    return " ".join("".join(random.choices(_INVISIBLE, k=2)) for _ in range(n))


def _nothing(*_: object) -> Iterator[str]:
    yield ""
    yield "\n \n"


KINDS = (
    Kind("nothing", _GROUP, "no text", _nothing),
    Kind("invisible", _GROUP, "characters that show nothing", _sized(_invisible)),
    Kind("filler_words", _GROUP, "filler words: well, you know, basically", _sized(_filler_words)),
    Kind("letters", _GROUP, "single letters", _sized(_letters)),
    Kind("numbers", _GROUP, "numbers", _sized(_numbers)),
    Kind("gibberish", _GROUP, "invented words", _sized(_gibberish)),
    Kind("punctuation", _GROUP, "punctuation", _sized(_punctuation)),
    Kind("bullets", _GROUP, "bullets without text", _sized(_bullets)),
    Kind("headings", _GROUP, "headings without text", _sized(_headings)),
    Kind("emoji", _GROUP, "emoji", _sized(_emoji)),
)
