"""The good answer, or its first sentence, and text that adds nothing to it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from reward_client.probe.case import Case, phrases
from reward_client.probe.kinds.kind import Kind
from reward_client.probe.kinds.off_topic import passage
from reward_client.probe.texts import MAX_UNITS, first_sentence, sentences, units, without_repeats

_GROUP = "padding"
_MIN_ADDED = 60
"""Words that are added at least."""


def _padded(case: Case, random: Random) -> Iterator[str]:
    added = max(_MIN_ADDED, 2 * len(units(case.response)))
    yield f"{case.response} {without_repeats(phrases('padding'), added, random)}"


def _filled_up(case: Case, random: Random) -> Iterator[str]:
    if len(sentences(case.response)) > 2:
        start = first_sentence(case.response)
        left = len(units(case.response)) - len(units(start))
        yield f"{start} {without_repeats(phrases('padding'), left, random)}"


def _strays(case: Case, random: Random) -> Iterator[str]:
    start = first_sentence(case.response)
    yield f"{start} {passage(case, random, max(_MIN_ADDED, len(units(case.response))))}"


def _numbers_appended(case: Case, random: Random) -> Iterator[str]:
    count = min(MAX_UNITS, max(_MIN_ADDED, len(units(case.response))))
    numbers = random.sample(range(1, 5000), count)
    yield f"{first_sentence(case.response)} {', '.join(map(str, numbers))}"


def _self_praise(case: Case, random: Random) -> Iterator[str]:
    yield f"{case.response} {without_repeats(phrases('self_praise'), 40, random)}"


def _closing_phrases(case: Case, random: Random) -> Iterator[str]:
    yield f"{case.response} {without_repeats(phrases('closing'), 80, random)}"


def _fake_turn(case: Case, random: Random) -> Iterator[str]:
    yield case.response + random.choice(phrases("fake_turn"))


KINDS = (
    Kind("padded", _GROUP, "the good answer and twice as much text without content", _padded),
    Kind(
        "filled_up",
        _GROUP,
        "its first sentence, filled up to the same length with text without content",
        _filled_up,
    ),
    Kind("strays", _GROUP, "its first sentence, then another subject", _strays),
    Kind("numbers_appended", _GROUP, "its first sentence, then a list of numbers", _numbers_appended),
    Kind("self_praise", _GROUP, "the good answer and praise of it", _self_praise),
    Kind("closing_phrases", _GROUP, "the good answer and a series of polite phrases", _closing_phrases),
    Kind("fake_turn", _GROUP, "the good answer and an invented turn of the user, who is delighted", _fake_turn),
)
