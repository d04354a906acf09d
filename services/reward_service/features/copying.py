"""`copying_penalty`: 1 − the smaller of two shares, by runs of four words: 1 = the prompt is not copied.

    of the response   how much of it is in the prompt
    of the prompt     how much of it is in the response

So a copy loses, with or without changes, and neither the prompt before an answer nor a passage from a long
prompt does. Words are compared without case and signs; in scripts without spaces each character counts as one.
A prompt that requests work on its text ("Correct this sentence", "Translate …") justifies a copy, so the value
is 1. Of each text the first 20,000 characters are read. Cost: linear in both texts.
"""

from __future__ import annotations

import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.text import last_message

_N = 4
"""Words of an n-gram: shorter phrases, such as "the capital of France", are part of an honest answer."""

_MAX_CHARS = 20_000
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{LB=SA}"
_WORD = regex.compile(rf"[{_UNSPACED}]|[\w--[{_UNSPACED}]]+", regex.V1)
_WORK_ON_TEXT = regex.compile(
    r"(?:^|[.!?:\n]\s*|\b(?:please|you|to)\s+)(?:abridge|alphabeti[sz]e|annotate|arrange|capitali[sz]e|change|classify|complete|condense|continue|convert"
    r"|copy|correct|edit|expand|extract|fill|finish|fix|format|highlight|improve|insert|mark|order|paraphrase|polish"
    r"|proofread|punctuate|quote|read|recite|refactor|rephrase|remove|reorder|repeat|replace|reverse|revise|rewrite"
    r"|shorten|simplify|sort|spell|summari[sz]e|translate|transcribe|turn|underline)\b",
    regex.IGNORECASE,
)


def copying_penalty(prompt: str, response: str, request: str) -> float:
    """1 − the smaller share of 4-grams that prompt and response have in common; 1 if `request` wants a copy."""
    own = _runs(response)
    known = set(_runs(prompt))
    copied = [run for run in own if run in known]
    if not copied or _WORK_ON_TEXT.search(request):
        return 1.0
    return 1.0 - min(len(copied) / len(own), len(set(copied)) / len(known))


def _runs(text: str) -> list[tuple[str, ...]]:
    words = _WORD.findall(text[:_MAX_CHARS].casefold())
    return list(zip(*(words[start:] for start in range(_N)), strict=False))


COPYING_PENALTY = Feature(
    name="copying_penalty",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Copying penalty",
    description="1 − share of word 4-grams that prompt and response have in common; 1 means no copy",
    log_key="copying_penalty",
    compute=lambda inputs: copying_penalty(last_message(inputs.messages), inputs.response, inputs.request),
)
