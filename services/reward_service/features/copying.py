"""`copying_penalty`: 1 − the share of the response's word 4-grams that are in the prompt; 1 = nothing is copied.

Words are separated by white space and compared without case. A prompt that requests work on its text ("Correct
this sentence", "Translate …") justifies a copy, so the value is 1. Cost: linear in both texts.
"""

from __future__ import annotations

import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.requests import last_request

_N = 4
"""Words of an n-gram: shorter phrases, such as "the capital of France", are part of an honest answer."""

_WORK_ON_TEXT = regex.compile(
    r"(?:^|[.!?:\n]\s*|\b(?:please|you|to)\s+)(?:abridge|alphabeti[sz]e|annotate|arrange|capitali[sz]e|change|classify|complete|condense|continue|convert"
    r"|copy|correct|edit|expand|extract|fill|finish|fix|format|highlight|improve|insert|mark|order|paraphrase|polish"
    r"|proofread|punctuate|quote|read|recite|refactor|rephrase|remove|reorder|repeat|replace|reverse|revise|rewrite"
    r"|shorten|simplify|sort|spell|summari[sz]e|translate|transcribe|turn|underline)\b",
    regex.IGNORECASE,
)


def copying_penalty(prompt: str, response: str, request: str) -> float:
    """1 − the share of the 4-grams of `response` in `prompt`; 1 if `request` wants work on the prompt's text."""
    copied, total = _counts(prompt.casefold().split(), response.casefold().split())
    if not copied or _WORK_ON_TEXT.search(request):
        return 1.0
    return 1.0 - copied / total


def _counts(source: list[str], words: list[str]) -> tuple[int, int]:
    known = {tuple(source[i : i + _N]) for i in range(len(source) - _N + 1)}
    total = max(0, len(words) - _N + 1)
    return sum(tuple(words[i : i + _N]) in known for i in range(total)) if known else 0, total


COPYING_PENALTY = Feature(
    name="copying_penalty",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Copying penalty",
    description="1 − share of word 4-grams that are in the prompt; 1 means nothing is copied",
    log_key="copying_penalty",
    compute=lambda inputs: copying_penalty(inputs.prompt, inputs.response, last_request(inputs.messages)),
)
