"""Samples → evaluated responses: the reward service scores them, within its limit on the size of a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from reward_client.wire import ChatMessage, Item, ItemResult, ScoreReply
from reward_evidence.errors import EvaluationError
from reward_evidence.evaluation.store import EvaluatedResponse, ScoredResponses
from reward_evidence.sampling.samples import Sample
from reward_runs.prompts import messages


class Scorer(Protocol):
    """The part of a reward client that scores."""

    def score(self, items: Sequence[Item], **options: Any) -> ScoreReply:
        """Score `items`, in order, or raise `RewardError`."""
        ...


def score_samples(
    scorer: Scorer,
    samples: Sequence[Sample],
    *,
    system_prompt: str | None,
    max_items: int,
    options: dict[str, Any],
) -> ScoredResponses:
    """Score `samples` in requests of up to `max_items`; `options` are those of `RewardClient.score`.

    Raises RewardError when the service fails, and EvaluationError when its recipe or models change meanwhile.
    """
    replies: list[ScoreReply] = []
    for begin in range(0, len(samples), max_items):
        items = [_item(sample, system_prompt) for sample in samples[begin : begin + max_items]]
        replies.append(scorer.score(items, **options))
    first = replies[0]
    if any(reply.recipe != first.recipe or reply.models != first.models for reply in replies):
        raise EvaluationError(
            "the reward service changed its recipe or models while a checkpoint was evaluated: evaluate it again"
        )
    results = [result for reply in replies for result in reply.results]
    responses = [_evaluated(sample, result) for sample, result in zip(samples, results, strict=True)]
    notices = unique(notice for reply in replies for notice in reply.notices)
    return ScoredResponses(responses, first.recipe, first.models, notices)


def unique(texts: Iterable[str]) -> list[str]:
    """Return `texts` without duplicates, in order."""
    return list(dict.fromkeys(texts))


def _item(sample: Sample, system_prompt: str | None) -> Item:
    return Item(
        prompt=[ChatMessage.model_validate(message) for message in messages(sample.prompt, system_prompt)],
        response=sample.response,
        reference=sample.prompt.reference,
        query_type=sample.prompt.query_type,
        id=f"{sample.prompt.id}#{sample.sample}",
    )


def _evaluated(sample: Sample, result: ItemResult) -> EvaluatedResponse:
    if result.reward is None:  # impossible with on_item_error="fail", the default
        raise EvaluationError(f"the service returned no reward for {result.id}: {result.error}")
    return EvaluatedResponse(
        prompt_id=sample.prompt.id,
        sample=sample.sample,
        seed=sample.seed,
        query_type=sample.prompt.query_type,
        prompt=sample.prompt.prompt,
        reference=sample.prompt.reference,
        response=sample.response,
        n_tokens=sample.n_tokens,
        truncated=sample.truncated,
        proxy_reward=result.reward,
        gold_reward=result.gold_reward,
        features=dict(result.features),
        flags=list(result.flags),
        kl=sample.divergence.exact if sample.divergence else None,
        kl_k1=sample.divergence.k1 if sample.divergence else None,
    )
