"""What an evaluation measured, as it lies on disk.

    evaluation/STEP.jsonl   one `EvaluatedResponse` a held-out prompt and sample
    evaluation/STEP.json    the `CheckpointRecord`: under which settings, and the hash of the lines

The record is written last: a checkpoint without a fitting one is not finished, and is evaluated again. So an
evaluation that is killed at any point goes on where it stopped, and never mixes two settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reward_client.wire import ModelNames, QueryType, RecipeName
from reward_runs.errors import TrainerError
from reward_runs.layout import replace_text

__all__ = [
    "CheckpointRecord",
    "EvaluatedResponse",
    "EvaluationError",
    "Finished",
    "find_finished",
    "record_of",
    "save",
    "step_name",
]


class EvaluationError(TrainerError):
    """An evaluation cannot be done; the message says what to do."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class EvaluatedResponse(_Record):
    """One response of one checkpoint, with everything that was measured of it."""

    prompt_id: str
    sample: int
    seed: int
    """Seed of the batch that this response was drawn in; the same for every checkpoint."""
    query_type: QueryType
    prompt: str
    reference: str | None
    response: str
    """Without special tokens."""
    n_tokens: int
    """Sampled tokens, the end token included."""
    truncated: bool
    """Stopped by the token limit."""
    proxy_reward: float
    gold_reward: float | None
    features: dict[str, float | None]
    flags: list[str]
    kl: float | None = None
    """Nats from the start policy, Rao-Blackwellised; see `divergence`."""
    kl_k1: float | None = None
    """Nats, log p_t − log p_0 of the sampled tokens."""


class CheckpointRecord(_Record):
    """Under which settings a checkpoint was evaluated."""

    step: int
    settings: dict[str, Any]
    """All that the responses and their scores depend on; an equal one makes a record reusable."""
    responses_sha256: str
    recipe: RecipeName
    models: ModelNames
    notices: list[str]
    duration_s: float


class Finished(_Record):
    """An evaluated checkpoint."""

    record: CheckpointRecord
    responses: list[EvaluatedResponse]


def step_name(step: int) -> str:
    """Name of the checkpoint of `step` in files and folders."""
    return f"{step:06d}"


def save(folder: Path, finished: Finished) -> None:
    """Write the lines, then the record that vouches for them."""
    name = step_name(finished.record.step)
    folder.mkdir(exist_ok=True)
    replace_text(folder / f"{name}.jsonl", _lines(finished.responses))
    replace_text(folder / f"{name}.json", finished.record.model_dump_json(indent=2) + "\n")


def record_of(
    step: int,
    settings: dict[str, Any],
    responses: Sequence[EvaluatedResponse],
    *,
    recipe: RecipeName,
    models: ModelNames,
    notices: Sequence[str],
    duration_s: float,
) -> CheckpointRecord:
    """Make the record of `responses`."""
    return CheckpointRecord(
        step=step,
        settings=settings,
        responses_sha256=_sha256(_lines(responses)),
        recipe=recipe,
        models=models,
        notices=list(notices),
        duration_s=round(duration_s, 3),
    )


def find_finished(folder: Path, step: int, settings: dict[str, Any] | None = None) -> Finished | None:
    """Read the evaluation of `step`; None when it is missing, cut off, or not the one of `settings`."""
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
    return Finished(record=record, responses=responses)


def _lines(responses: Sequence[EvaluatedResponse]) -> str:
    return "".join(json.dumps(response.model_dump(mode="json")) + "\n" for response in responses)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
