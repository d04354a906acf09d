"""Evaluated responses: scored by the reward service, and kept on disk.

    samples ──score_samples──▶ [EvaluatedResponse] ──evaluated_step──▶ EvaluatedStep ──save──▶ files

    evaluation/STEP.jsonl   one `EvaluatedResponse` per prompt and sample
    evaluation/STEP.json    the `CheckpointRecord`: the settings, and the hash of the lines

The record is written last. A step without a matching record is evaluated again, so an evaluation can be killed at
any point and continued, and responses of different settings are never mixed.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from reward_client.wire import ChatMessage, Item, ItemResult, ModelNames, QueryType, RecipeName, ScoreReply
from reward_client.wire.replies import GOLDS
from reward_evidence.sampling.samples import Sample
from reward_runs.errors import EvaluationError
from reward_runs.files import replace_text, writing
from reward_runs.layout import step_name
from reward_runs.prompts import messages


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class EvaluatedResponse(_Record):
    """One response of one checkpoint with everything that was measured; None where a value is not available."""

    prompt_id: str
    sample: int
    seed: int | None
    """Seed of the batch of this response, the same for every checkpoint; None for a recorded response."""
    query_type: QueryType
    prompt: str
    reference: str | list[str] | None
    response: str
    """Without special tokens."""
    n_tokens: int | None
    """Sampled tokens, including the end token."""
    truncated: bool | None
    """Whether the token limit ended the response."""
    proxy_reward: float
    gold_reward: float | None
    golds: dict[str, float] = {}
    """Scores of all gold models by id, the primary one first; only if they are several."""
    features: dict[str, float | None]
    factors: dict[str, float]
    """What was multiplied, by feature name, in the recipe's order: their product is the proxy reward."""
    flags: list[str]
    kl: float | None = None
    """Nats from the initial policy, Rao-Blackwellised; see `statistics.kl`."""
    kl_k1: float | None = None
    """Nats: log p_t − log p_0 of the sampled tokens."""


class CheckpointRecord(_Record):
    """The settings with which a checkpoint was evaluated."""

    step: int
    settings: dict[str, Any]
    """Everything that the responses and their scores depend on; a record with equal settings is reused."""
    responses_sha256: str
    recipe: RecipeName
    models: ModelNames
    notices: list[str]
    duration_s: float


class EvaluatedStep(_Record):
    """The responses of one step, and their record."""

    record: CheckpointRecord
    responses: list[EvaluatedResponse]


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
) -> tuple[list[EvaluatedResponse], list[ScoreReply]]:
    """Score `samples` in requests of up to `max_items`; return the responses, and the replies that scored them.

    `options` are those of `RewardClient.score`.
    Raises RewardError when the service fails, and EvaluationError when its recipe or models change meanwhile.
    """
    replies: list[ScoreReply] = []
    for begin in range(0, len(samples), max_items):
        items = [scored_item(sample, system_prompt) for sample in samples[begin : begin + max_items]]
        replies.append(scorer.score(items, explain=True, **options))
    first = replies[0]
    if any(reply.recipe != first.recipe or reply.models != first.models for reply in replies):
        raise EvaluationError(
            "the reward service changed its recipe or models while a checkpoint was evaluated: evaluate it again"
        )
    results = [result for reply in replies for result in reply.results]
    responses = [_evaluated(sample, result) for sample, result in zip(samples, results, strict=True)]
    return responses, replies


def unique(texts: Iterable[str]) -> list[str]:
    """Return `texts` without duplicates, in order."""
    return list(dict.fromkeys(texts))


def scored_item(sample: Sample, system_prompt: str | None) -> Item:
    """Return `sample` as an item of a request, with an id that names prompt and sample."""
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
    if result.attribution is None:
        raise EvaluationError(f"the service returned no attribution for {result.id}, although `explain` was set")
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
        golds=result.golds,
        features=dict(result.features),
        factors=result.attribution.factors,
        flags=list(result.flags),
        kl=sample.divergence.exact if sample.divergence else None,
        kl_k1=sample.divergence.k1 if sample.divergence else None,
    )


def evaluated_step(
    step: int,
    settings: dict[str, Any],
    responses: list[EvaluatedResponse],
    replies: Sequence[ScoreReply],
    duration_s: float,
) -> EvaluatedStep:
    """Return the responses of `step` with their record; `replies` are those of the service."""
    record = CheckpointRecord(
        step=step,
        settings=settings,
        responses_sha256=_sha256(_lines(responses)),
        recipe=replies[0].recipe,
        models=replies[0].models,
        notices=unique(notice for reply in replies for notice in reply.notices),
        duration_s=round(duration_s, 3),
    )
    return EvaluatedStep(record=record, responses=responses)


def save(folder: Path, evaluated: EvaluatedStep) -> None:
    """Write the lines, then the record with their hash."""
    name = step_name(evaluated.record.step)
    with writing(folder):
        folder.mkdir(exist_ok=True)
    replace_text(folder / f"{name}.jsonl", _lines(evaluated.responses))
    replace_text(folder / f"{name}.json", evaluated.record.model_dump_json(indent=2) + "\n")


def find_evaluated(folder: Path, step: int, settings: dict[str, Any] | None = None) -> EvaluatedStep | None:
    """Read the evaluation of `step`; None when it is missing, incomplete, or has other settings or fields."""
    name = step_name(step)
    try:
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8")
        record = CheckpointRecord.model_validate_json((folder / f"{name}.json").read_text(encoding="utf-8"))
        responses = [EvaluatedResponse.model_validate_json(line) for line in lines.split("\n") if line]
    except (FileNotFoundError, ValidationError):
        return None
    if record.responses_sha256 != _sha256(lines):
        return None
    if settings is not None and record.settings != json.loads(json.dumps(settings)):
        return None
    return EvaluatedStep(record=record, responses=responses)


def read_evaluated(out: Path, step: int) -> list[EvaluatedResponse]:
    """The responses of `step` of the evaluation in `out`; raise EvaluationError when there are none."""
    evaluated = find_evaluated(out / "evaluation", step)
    if evaluated is None:
        raise EvaluationError(
            f"the responses of step {step} in {out / 'evaluation'} are missing or were changed: evaluate again"
        )
    return evaluated.responses


def _lines(responses: Sequence[EvaluatedResponse]) -> str:
    dumped = (one.model_dump(mode="json", exclude=None if one.golds else GOLDS) for one in responses)
    return "".join(json.dumps(fields) + "\n" for fields in dumped)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
