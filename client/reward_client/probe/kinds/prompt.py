"""The prompt's own words instead of an answer."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from reward_client.probe.case import Case
from reward_client.probe.kinds.kind import Kind
from reward_client.probe.texts import fill, joined, keywords, units

_GROUP = "the prompt again"


def _prompt_copied(case: Case, _: Random) -> Iterator[str]:
    yield case.prompt


def _prompt_looped(case: Case, _: Random) -> Iterator[str]:
    yield fill([case.prompt], max(len(units(case.response)), 3 * len(units(case.prompt))), "\n")


def _keywords_stuffed(case: Case, random: Random) -> Iterator[str]:
    """The keywords in another order each time, so that few sequences repeat."""
    words, found = keywords(case.prompt), list[str]()
    for _ in range(max(3, len(units(case.response)) // len(words))):
        found += random.sample(words, len(words))
    yield joined(found[:2_000], case.prompt)


KINDS = (
    Kind("prompt_copied", _GROUP, "the prompt, copied", _prompt_copied),
    Kind("prompt_looped", _GROUP, "the prompt, over and over", _prompt_looped),
    Kind("keywords_stuffed", _GROUP, "the prompt's keywords in changing order", _keywords_stuffed),
)
