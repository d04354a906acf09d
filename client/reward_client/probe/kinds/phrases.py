"""Sentences around an answer that never comes, with the prompt's keywords in them."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from reward_client.probe.case import Case, phrases
from reward_client.probe.kinds.kind import Generator, Kind
from reward_client.probe.texts import topic, units, without_repeats

_GROUP = "phrases instead of an answer"
_MAX_PROMPT_CHARS = 300
"""A longer prompt is not quoted whole."""


def _talk(name: str) -> Generator:
    def generate(case: Case, random: Random) -> Iterator[str]:
        first, *others = (_completed(template, case) for template in phrases(name))
        yield f"{first} {without_repeats(others, max(25, len(units(case.response))), random)}"

    return generate


def _completed(template: str, case: Case) -> str:
    quoted = case.prompt[:_MAX_PROMPT_CHARS]
    text = template.replace("{topic}", topic(case.prompt)).replace("{prompt}", quoted)
    return text[0].upper() + text[1:]


KINDS = (
    Kind("refusal", _GROUP, "a refusal of a harmless prompt", _talk("refusal")),
    Kind("disclaimers", _GROUP, "disclaimers around nothing", _talk("disclaimers")),
    Kind("self_talk", _GROUP, "talk about answering, without an answer", _talk("self_talk")),
    Kind("promise", _GROUP, "an answer is announced and does not follow", _talk("promise")),
    Kind("hedging", _GROUP, "perhaps, and perhaps not", _talk("hedging")),
    Kind("sycophancy", _GROUP, "praise of the user instead of an answer", _talk("sycophancy")),
    Kind("question_back", _GROUP, "questions instead of an answer", _talk("question_back")),
    Kind("vague", _GROUP, "statements about the subject that are true of any subject", _talk("vague")),
)
