"""Evaluated responses on disk.

    evaluation/STEP.jsonl   one `EvaluatedResponse` per prompt and sample
    evaluation/STEP.json    the `CheckpointRecord`: the settings, and the hash of the lines

The record is written last. A step without a matching record is evaluated again, so an evaluation can be killed at
any point and continued, and responses of different settings are never mixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reward_client.wire import ModelNames, QueryType, RecipeName
from reward_runs.files import replace_text
from reward_runs.layout import step_name


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
    reference: str | None
    response: str
    """Without special tokens."""
    n_tokens: int | None
    """Sampled tokens, including the end token."""
    truncated: bool | None
    """Whether the token limit ended the response."""
    proxy_reward: float
    gold_reward: float | None
    features: dict[str, float | None]
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


@dataclass(frozen=True)
class ScoredResponses:
    """Responses with their rewards, and what the service reported about them."""

    responses: list[EvaluatedResponse]
    recipe: RecipeName
    models: ModelNames
    notices: list[str]


def save(folder: Path, evaluated: EvaluatedStep) -> None:
    """Write the lines, then the record with their hash."""
    name = step_name(evaluated.record.step)
    folder.mkdir(exist_ok=True)
    replace_text(folder / f"{name}.jsonl", _lines(evaluated.responses))
    replace_text(folder / f"{name}.json", evaluated.record.model_dump_json(indent=2) + "\n")


def record_of(
    step: int,
    settings: dict[str, Any],
    scored: ScoredResponses,
    *,
    duration_s: float,
) -> CheckpointRecord:
    """Return the record of `scored`."""
    return CheckpointRecord(
        step=step,
        settings=settings,
        responses_sha256=_sha256(_lines(scored.responses)),
        recipe=scored.recipe,
        models=scored.models,
        notices=scored.notices,
        duration_s=round(duration_s, 3),
    )


def find_evaluated(folder: Path, step: int, settings: dict[str, Any] | None = None) -> EvaluatedStep | None:
    """Read the evaluation of `step`; None when it is missing, incomplete, or has other settings."""
    name = step_name(step)
    try:
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8")
        record = CheckpointRecord.model_validate_json((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None
    if record.responses_sha256 != _sha256(lines):
        return None
    if settings is not None and record.settings != json.loads(json.dumps(settings)):
        return None
    responses = [EvaluatedResponse.model_validate_json(line) for line in lines.split("\n") if line]
    return EvaluatedStep(record=record, responses=responses)


def _lines(responses: Sequence[EvaluatedResponse]) -> str:
    return "".join(json.dumps(response.model_dump(mode="json")) + "\n" for response in responses)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
