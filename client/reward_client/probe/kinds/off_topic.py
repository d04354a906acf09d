"""Fluent text about something else, of several lengths, in the prompt's script or in another language."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from reward_client.probe.case import Case, passages
from reward_client.probe.kinds.kind import Kind
from reward_client.probe.texts import keywords, sentences, units

_GROUP = "off topic"


def passage(case: Case, random: Random, n_units: int, name: str = "off_topic") -> str:
    """About `n_units` words on subjects that share the fewest words with the prompt and its good answer."""
    own = set(keywords(f"{case.prompt} {case.response}", at_most=1_000))
    paragraphs = random.sample(passages(name), len(passages(name)))
    paragraphs.sort(key=lambda text: len(own.intersection(keywords(text, at_most=1_000))))
    words = " ".join(paragraphs).split()
    return " ".join(words[: max(1, n_units)])


def _short(case: Case, random: Random) -> Iterator[str]:
    yield sentences(passage(case, random, 60))[0]


def _same_length(case: Case, random: Random) -> Iterator[str]:
    yield passage(case, random, len(units(case.response)))


def _long(case: Case, random: Random) -> Iterator[str]:
    yield passage(case, random, max(200, 3 * len(units(case.response))))


def _other_language(case: Case, random: Random) -> Iterator[str]:
    yield passage(case, random, max(30, len(units(case.response))), "other_language")


KINDS = (
    Kind("off_topic_short", _GROUP, "one sentence about something else", _short),
    Kind("off_topic_same_length", _GROUP, "text about something else, as long as the good answer", _same_length),
    Kind("off_topic_long", _GROUP, "a long text about something else", _long),
    Kind("other_language", _GROUP, "text about something else in another language", _other_language),
)
