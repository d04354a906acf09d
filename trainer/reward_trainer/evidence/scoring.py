"""Draws → evaluated responses: the reward service scores them, in requests it admits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reward_client.wire import ChatMessage, Item, ItemResult, ModelNames, RecipeName, ScoreReply
from reward_trainer.data import messages
from reward_trainer.evidence.draws import Draw
from reward_trainer.evidence.records import EvaluatedResponse, EvaluationError

__all__ = ["Scored", "Scorer", "score_draws", "unique"]


class Scorer(Protocol):
    """What is asked of a reward client."""

    def score(self, items: Sequence[Item], **options: Any) -> ScoreReply:
        """Score `items`, in order, or raise `RewardError`."""
        ...


@dataclass(frozen=True)
class Scored:
    """Responses with their rewards, and what the service said about them."""

    responses: list[EvaluatedResponse]
    recipe: RecipeName
    models: ModelNames
    notices: list[str] = field(default_factory=list)


def score_draws(
    scorer: Scorer,
    draws: Sequence[Draw],
    *,
    system_prompt: str | None,
    max_items: int,
    options: dict[str, Any],
) -> Scored:
    """Score `draws` in requests of up to `max_items`; `options` are those of `RewardClient.score`.

    Raises `RewardError` when the service fails, and `EvaluationError` when its recipe changes meanwhile.
    """
    replies: list[ScoreReply] = []
    for begin in range(0, len(draws), max_items):
        items = [_item(draw, system_prompt) for draw in draws[begin : begin + max_items]]
        replies.append(scorer.score(items, **options))
    first = replies[0]
    if any(reply.recipe != first.recipe or reply.models != first.models for reply in replies):
        raise EvaluationError(
            "the reward service changed its recipe or models during one checkpoint: run it again"
        )
    results = [result for reply in replies for result in reply.results]
    responses = [_evaluated(draw, result) for draw, result in zip(draws, results, strict=True)]
    return Scored(responses, first.recipe, first.models, unique(n for reply in replies for n in reply.notices))


def unique(texts: Iterable[str]) -> list[str]:
    """Drop repetitions, keep the order."""
    return list(dict.fromkeys(texts))


def _item(draw: Draw, system_prompt: str | None) -> Item:
    return Item(
        prompt=[ChatMessage.model_validate(message) for message in messages(draw.prompt, system_prompt)],
        response=draw.response,
        reference=draw.prompt.reference,
        query_type=draw.prompt.query_type,
        id=f"{draw.prompt.id}#{draw.sample}",
    )


def _evaluated(draw: Draw, result: ItemResult) -> EvaluatedResponse:
    if result.reward is None:  # cannot be with on_item_error="fail", which the evaluation asks for
        raise EvaluationError(f"the service gave no reward for {result.id}: {result.error}")
    return EvaluatedResponse(
        prompt_id=draw.prompt.id,
        sample=draw.sample,
        seed=draw.seed,
        query_type=draw.prompt.query_type,
        prompt=draw.prompt.prompt,
        reference=draw.prompt.reference,
        response=draw.response,
        n_tokens=draw.n_tokens,
        truncated=draw.truncated,
        proxy_reward=result.reward,
        gold_reward=result.gold_reward,
        features=result.features.model_dump(),
        flags=list(result.flags),
        kl=draw.divergence.exact if draw.divergence else None,
        kl_k1=draw.divergence.k1 if draw.divergence else None,
    )
