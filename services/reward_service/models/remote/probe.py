"""Scores at start, to find a server whose scores are not raw logits, or not those of the texts that were sent.

vLLM applies a sigmoid or softmax to the logits of a classifier unless the request, or its configuration, says
otherwise; versions differ in the name of that field, and ignore those that they do not know. So each field is sent
with both values. One that changes the scores is used from then on. Whether one does or not, scores that are all in
[0, 1] are taken for probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

from reward_client.wire import ChatMessage
from reward_service.models.load_gold import GoldLoadError
from reward_service.models.protocols import Exchange
from reward_service.models.remote.formats import Format, Score, Switch
from reward_service.models.remote.server import RefusedError

Scores = Callable[[Sequence[int], dict[str, bool]], Awaitable[list[Score]]]
"""Scores of some of `PROBES`, by index, with fields that the request has besides."""

_PROMPTS = (
    "Why is the sky blue?",
    "Name the capital of France.",
    "Write one sentence about the sea.",
    "2 + 2 = ?",
)
_RESPONSES = ("Air scatters blue light more than red light.", "Paris.", "no no no no no no no no", "I cannot say.")
PROBES = tuple(
    Exchange((ChatMessage(role="user", content=prompt),), response)
    for prompt in _PROMPTS
    for response in _RESPONSES[:2]
) + tuple(Exchange((ChatMessage(role="user", content=_PROMPTS[0]),), response) for response in _RESPONSES[2:])
"""Conversations of different quality, so that their scores differ."""

_TOLERANCE = 0.05
"""Difference of the scores of a text alone and in a batch, relative to the range of the scores of all texts."""
_ROUNDING = 0.01
"""The same, relative to the score: what bfloat16 gives."""
_REFUSES_FIELD = frozenset({400, 422})
"""Statuses of a server that does not accept a field, or its value. Others say nothing about it."""


async def probe(scores: Scores, form: Format, *, raw: bool) -> Switch | None:
    """The field that selects raw logits, or None if the server has no such field.

    Args:
        scores: sends a request to the server.
        form: the server's format.
        raw: whether the operator states that the scores are raw logits.

    Raises:
        GoldLoadError: scores are probabilities, are not finite, or are not those of the texts.
        GoldUnavailableError, ModelError: the server does not answer, or refuses the request.
    """
    switch, found = await _switch(scores, form)
    _check_values(found, form, raw=raw)
    await _check_order(scores, found, {} if switch is None else {switch.name: switch.raw})
    return switch


async def _switch(scores: Scores, form: Format) -> tuple[Switch | None, list[float]]:
    """The first field that has an effect, and the scores with it; without one, None and the scores as they are."""
    for switch in form.switches:
        found = await _accepted(scores, {switch.name: switch.raw})
        if found is None:
            continue
        others = await _accepted(scores, {switch.name: not switch.raw})
        if others is None or _are_probabilities_of(others, found):
            return switch, found
    return None, _finite(await scores(range(len(PROBES)), {}))


async def _accepted(scores: Scores, fields: dict[str, bool]) -> list[float] | None:
    """The scores with `fields`; None if the server does not accept them."""
    try:
        return _finite(await scores(range(len(PROBES)), fields))
    except RefusedError as exc:
        if exc.status in _REFUSES_FIELD:
            return None
        raise


def _are_probabilities_of(others: Sequence[float], found: Sequence[float]) -> bool:
    """Whether the field has an effect, and its other value gives `others` in [0, 1]."""
    differ = any(
        not math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE / 5)
        for one, other in zip(found, others, strict=True)
    )
    return differ and _in_unit_range(others)


def _in_unit_range(scores: Sequence[float]) -> bool:
    return all(0 <= score <= 1 for score in scores)


def _check_values(found: Sequence[float], form: Format, *, raw: bool) -> None:
    """Raise GoldLoadError for scores that are all the same, or, unless they are `raw`, in [0, 1]."""
    if min(found) == max(found):
        raise GoldLoadError(
            f"its score of {len(found)} different conversations is the same, {found[0]:.4g}{_or(form)}"
        )
    if form.remedy and not raw and _in_unit_range(found):
        raise GoldLoadError(
            f"its scores of {len(found)} different conversations are all between 0 and 1 "
            f"({min(found):.4g} to {max(found):.4g}), so they seem to be probabilities and no raw logits"
            f"{_or(form)}; or add raw=true to the options of --gold if they are raw logits"
        )


async def _check_order(scores: Scores, found: Sequence[float], fields: dict[str, bool]) -> None:
    """The lowest and the highest score must be those of their texts alone. Raises GoldLoadError."""
    lowest, highest = min(found), max(found)
    for index in (found.index(lowest), found.index(highest)):
        alone = _finite(await scores([index], fields))[0]
        if not math.isclose(alone, found[index], rel_tol=_ROUNDING, abs_tol=_TOLERANCE * (highest - lowest)):
            raise GoldLoadError(
                f"its score of a conversation is {alone:.4g} alone and {found[index]:.4g} in a batch: it returns "
                "scores in another order, or pads batches so that scores change"
            )


def _or(form: Format) -> str:
    return f": {form.remedy}" if form.remedy else ""


def _finite(scores: Sequence[Score]) -> list[float]:
    found: list[float] = []
    for score in scores:
        if isinstance(score, Exception):
            raise GoldLoadError(f"it cannot score a short conversation: {score}")
        if not math.isfinite(score):
            raise GoldLoadError(f"its score of a short conversation is {score}")
        found.append(score)
    return found
