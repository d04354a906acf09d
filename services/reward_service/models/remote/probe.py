"""Scores at start, to find a server whose scores are not raw logits, or not those of the texts that were sent.

vLLM applies a sigmoid or softmax to the logits of a classifier unless the request, or its configuration, says
otherwise; versions differ in the name of that field, and ignore those that they do not know. So each field is sent
with both values. One that changes the scores is used from then on. If none does, scores that are all in [0, 1]
are taken for probabilities.
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
"""Relative difference of the scores of a text alone and in a batch; bfloat16 gives 0.01."""


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
    for switch in form.switches or (None,):
        fields = {} if switch is None else {switch.name: switch.raw}
        found = _finite(await scores(range(len(PROBES)), fields))
        if switch is not None and await _is_raw(scores, switch, found):
            await _check_order(scores, found, fields)
            return switch
    if min(found) == max(found):
        raise GoldLoadError(
            f"its score of {len(found)} different conversations is the same, {found[0]:.4g}{_or(form)}"
        )
    if form.remedy and not raw and all(0 <= score <= 1 for score in found):
        raise GoldLoadError(
            f"its scores of {len(found)} different conversations are all between 0 and 1 "
            f"({min(found):.4g} to {max(found):.4g}), so they seem to be probabilities and no raw logits"
            f"{_or(form)}; or add raw=true to the options of --gold if they are raw logits"
        )
    await _check_order(scores, found, fields)
    return switch


async def _is_raw(scores: Scores, switch: Switch, found: Sequence[float]) -> bool:
    """Whether `switch` selects raw logits: the server refuses its other value, or answers that with others."""
    try:
        others = _finite(await scores(range(len(PROBES)), {switch.name: not switch.raw}))
    except RefusedError as exc:
        if exc.may_be_item:
            return True
        raise
    return not _close(found, others) and all(0 <= other <= 1 for other in others)


async def _check_order(scores: Scores, found: Sequence[float], fields: dict[str, bool]) -> None:
    """The score of a text alone must be that in the batch. Raises GoldLoadError."""
    for index in (0, len(PROBES) - 1):
        alone = _finite(await scores([index], fields))[0]
        if not _close([alone], [found[index]]):
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


def _close(ones: Sequence[float], others: Sequence[float]) -> bool:
    return all(
        math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE / 5)
        for one, other in zip(ones, others, strict=True)
    )
