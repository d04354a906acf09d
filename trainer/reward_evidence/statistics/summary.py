"""Responses → the figures in `evaluation.json`. Pure.

Means are over prompts, after the samples of each prompt are averaged; shares are over responses.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from reward_client.wire import QueryType
from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.statistics.by_prompt import Measure, Responses, n_words, values_by_prompt
from reward_evidence.statistics.drivers import Drivers, change_drivers
from reward_evidence.statistics.golds import SeveralGolds, several_golds
from reward_evidence.statistics.monotonicity import (
    Change,
    Estimate,
    Falls,
    RankCorrelation,
    count_falls,
    estimate,
    paired_change,
    rank_correlation,
)

MIN_RANKED = 4
"""Checkpoints from which a rank correlation is given: three have six orders, of which chance gives any."""


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class CheckpointResponses(_Figures):
    """The responses of one checkpoint, and the hash of its weights."""

    step: int
    weights_sha256: str | None
    responses: list[EvaluatedResponse]


class GroupFigures(_Figures):
    """One checkpoint on all prompts, or on those of one query type."""

    n_prompts: int
    n_responses: int
    proxy_reward: Estimate
    gold_reward: Estimate | None
    n_tokens: Estimate | None
    n_words: Estimate
    truncated: float | None
    """Share of responses that the token limit ended."""
    empty: float
    """Share of responses without text."""
    kl: Estimate | None
    """Nats from the initial policy, Rao-Blackwellised."""
    kl_k1: Estimate | None
    """Nats, log-ratio estimate."""
    features: dict[str, Estimate]
    """Means over the prompts that have the feature."""


class CheckpointFigures(GroupFigures):
    """One checkpoint on all prompts, and by query type."""

    step: int
    weights_sha256: str | None
    query_types: dict[QueryType, GroupFigures]


class Trend(_Figures):
    """From the first to the last checkpoint, on all prompts or on those of one query type."""

    n_prompts: int
    gold_change: Change | None
    """The primary figure; null without a gold model or without a second checkpoint."""
    proxy_change: Change | None
    words_change: Change | None
    gold_since_first: list[Change]
    """From the first to each later checkpoint, by step; the last one is the primary figure."""
    proxy_since_first: list[Change]
    rank_correlation: RankCorrelation | None
    gold_falls: Falls | None
    proxy_falls: Falls | None
    drivers: Drivers | None
    """Null without a second checkpoint."""


class RunFigures(_Figures):
    """All figures of a run."""

    checkpoints: list[CheckpointFigures]
    trend: Trend
    query_types: dict[QueryType, Trend]
    golds: SeveralGolds | None
    """Null with one gold model."""


def summarise(checkpoints: Sequence[CheckpointResponses]) -> RunFigures:
    """Return the figures of each checkpoint, and the trends over checkpoints: overall and by query type."""
    by_checkpoint = [checkpoint.responses for checkpoint in checkpoints]
    return RunFigures(
        checkpoints=[summarise_checkpoint(checkpoint) for checkpoint in checkpoints],
        trend=trend(by_checkpoint),
        query_types={
            query_type: trend([_of_type(responses, query_type) for responses in by_checkpoint])
            for query_type in _types_in(by_checkpoint[0])
        },
        golds=several_golds(by_checkpoint),
    )


def summarise_checkpoint(checkpoint: CheckpointResponses) -> CheckpointFigures:
    """Return the figures of one checkpoint."""
    return CheckpointFigures(
        step=checkpoint.step,
        weights_sha256=checkpoint.weights_sha256,
        query_types={
            query_type: group_figures(_of_type(checkpoint.responses, query_type))
            for query_type in _types_in(checkpoint.responses)
        },
        **dict(group_figures(checkpoint.responses)),
    )


def group_figures(responses: Responses) -> GroupFigures:
    """Return the figures of `responses`, at least one."""
    truncated = [response.truncated for response in responses if response.truncated is not None]
    names = dict.fromkeys(name for response in responses for name in response.features)
    features = {name: _mean(responses, lambda r, name=name: r.features.get(name)) for name in names}  # type: ignore[misc]
    return GroupFigures(
        n_prompts=len({response.prompt_id for response in responses}),
        n_responses=len(responses),
        proxy_reward=_required_mean(responses, lambda r: r.proxy_reward),
        gold_reward=_mean(responses, lambda r: r.gold_reward),
        n_tokens=_mean(responses, lambda r: r.n_tokens),
        n_words=_required_mean(responses, n_words),
        truncated=float(np.mean(truncated)) if len(truncated) == len(responses) else None,
        empty=float(np.mean([not response.response.strip() for response in responses])),
        kl=_mean(responses, lambda r: r.kl),
        kl_k1=_mean(responses, lambda r: r.kl_k1),
        features={name: mean for name, mean in features.items() if mean is not None},
    )


def trend(checkpoints: Sequence[Responses]) -> Trend:
    """Return the trend from the first of `checkpoints` to the last; each has the same prompts."""
    proxy = _matrix(checkpoints, lambda r: r.proxy_reward)
    gold = _matrix(checkpoints, lambda r: r.gold_reward)
    words = _matrix(checkpoints, n_words)
    several = len(checkpoints) > 1
    ordered = len(checkpoints) >= MIN_RANKED
    return Trend(
        n_prompts=len({response.prompt_id for response in checkpoints[0]}),
        gold_change=_change(gold),
        proxy_change=_change(proxy),
        words_change=_change(words),
        gold_since_first=_since_first(gold),
        proxy_since_first=_since_first(proxy),
        rank_correlation=rank_correlation(proxy, gold)
        if ordered and gold is not None and proxy is not None
        else None,
        gold_falls=count_falls(gold) if several and gold is not None else None,
        proxy_falls=count_falls(proxy) if several and proxy is not None else None,
        drivers=change_drivers(checkpoints[0], checkpoints[-1]) if several else None,
    )


def _types_in(responses: Responses) -> list[QueryType]:
    return sorted({response.query_type for response in responses}, reverse=True)  # open-ended first


def _of_type(responses: Responses, query_type: QueryType) -> list[EvaluatedResponse]:
    return [response for response in responses if response.query_type is query_type]


def _mean(responses: Responses, measure: Measure) -> Estimate | None:
    values = values_by_prompt(responses, measure)
    return estimate(values) if len(values) else None


def _required_mean(responses: Responses, measure: Measure) -> Estimate:
    return estimate(values_by_prompt(responses, measure))


def _matrix(checkpoints: Sequence[Responses], measure: Measure) -> NDArray[np.float64] | None:
    """Return `measure` of each checkpoint and prompt, (T, N); None if it was not measured."""
    rows = [values_by_prompt(responses, measure) for responses in checkpoints]
    return np.stack(rows) if len(rows[0]) else None


def _change(matrix: NDArray[np.float64] | None) -> Change | None:
    return paired_change(matrix[0], matrix[-1]) if matrix is not None and len(matrix) > 1 else None


def _since_first(matrix: NDArray[np.float64] | None) -> list[Change]:
    return [] if matrix is None else [paired_change(matrix[0], later) for later in matrix[1:]]
