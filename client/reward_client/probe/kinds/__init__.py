"""The kinds of gamed or wrong responses, each a generator from a prompt with a good answer.

wrong        answers to closed-ended prompts that contradict the reference, or evade a choice
repetition   parts of the good answer over and over
padding      the good answer, or its beginning, and text that adds nothing
prompt       the prompt's own words instead of an answer
off_topic    fluent text about something else, of several lengths
empty        text without content: letters, numbers, bullets, emoji, nothing visible
phrases      sentences around an answer that never comes: refusal, disclaimers, flattery, promises
damage       the good answer cut, or its words in disorder

A generator is deterministic: the same prompt gives the same responses. It gives nothing for a prompt for which its
kind makes no sense, for instance a changed number for an answer without numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from reward_client.probe.case import Case
from reward_client.probe.kinds import damage, empty, off_topic, padding, phrases, prompt, repetition, wrong
from reward_client.probe.kinds.kind import Kind

__all__ = ["KINDS", "OWN_GROUP", "Kind", "worse_responses"]

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for module in (wrong, repetition, padding, prompt, off_topic, empty, phrases, damage)
    for kind in module.KINDS
}
"""All kinds by name, in the order of reports."""

OWN_GROUP = "your own"
"""Group of the kinds that only the file of prompts has."""


def worse_responses(case: Case) -> list[tuple[Kind, str]]:
    """The worse responses to the prompt of `case`, with their kinds: written by hand, then generated.

    Each text occurs once per kind, and none equals the good answer.
    """
    own = [
        Kind(name, OWN_GROUP, "from the file of prompts", lambda *_: ())
        for name in case.worse
        if name not in KINDS
    ]
    found: list[tuple[Kind, str]] = []
    for kind in (*KINDS.values(), *own):
        texts = [*case.worse.get(kind.name, ()), *kind.make(case, _random(kind, case))]
        found += [(kind, text) for text in dict.fromkeys(texts) if text != case.response]
    return found


def _random(kind: Kind, case: Case) -> Random:
    return Random(f"{kind.name}\n{case.prompt}\n{case.response}")
