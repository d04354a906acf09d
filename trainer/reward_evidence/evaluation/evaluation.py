"""`evaluation.json`: the figures of a run, what they were measured with, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reward_client.wire import FeatureInfo, QueryType
from reward_evidence.evaluation.store import EvaluationError
from reward_evidence.statistics.summary import CheckpointFigures, CheckpointResponses, Trend, summarise
from reward_evidence.statistics.verdict import Circumstances, VerdictText, write_verdict
from reward_runs.layout import replace_text

__all__ = [
    "FILE_NAME",
    "METHOD",
    "Evaluation",
    "Provenance",
    "evaluate_figures",
    "read_evaluation",
    "write_evaluation",
]

FILE_NAME = "evaluation.json"

METHOD = {
    "means": "Samples of a prompt are averaged first; means and intervals are over prompts.",
    "intervals of means and changes": "95 %, Student's t over prompts; changes are paired by prompt.",
    "primary figure": "Mean gold reward, last checkpoint minus first, paired by prompt; fixed beforehand.",
    "ρ": "Spearman's rank correlation of mean proxy and mean gold reward over checkpoints.",
    "p-value of ρ": "Two-sided permutation test; it takes checkpoints as exchangeable, which they are not.",
    "interval of ρ": "95 %, percentile bootstrap over prompts.",
    "KL": (
        "Nats a response, from the start policy, at the sampling temperature: summed over the sampled tokens, the "
        "exact divergence of each next-token distribution. kl_k1 is the plain log-ratio estimate of the same."
    ),
    "random numbers": (
        "Prompts are answered in fixed batches; the generator is seeded for each batch, alike at every "
        "checkpoint. Checkpoints share random numbers until a response of the batch ends."
    ),
    "words": "Runs of word characters and runs of other visible characters, as the length incentive counts them.",
}


class Provenance(BaseModel):
    """What the figures were measured with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    created_at: str
    """ISO 8601, UTC."""
    settings: dict[str, Any]
    """Of the evaluation; the run's own are in `config.json`."""
    service: dict[str, Any]
    """What scored: recipe with hash, models with revisions, versions."""
    versions: dict[str, str]
    """Of the evaluation's own libraries."""
    hashes: dict[str, str]
    features: list[FeatureInfo] = []
    """The service's features, with the labels that charts use."""
    notices: list[str]
    """What a reader must know, word for word as the service says it, and what the evaluation adds."""
    rollout_engine: str


class Evaluation(Provenance):
    """All of `evaluation.json`."""

    verdict: VerdictText
    trend: Trend
    """First to last checkpoint, all prompts."""
    query_types: dict[QueryType, Trend]
    checkpoints: list[CheckpointFigures]
    method: dict[str, str]


def evaluate_figures(checkpoints: Sequence[CheckpointResponses], provenance: Provenance) -> Evaluation:
    """Work out all figures of `checkpoints` (by step, at least one) and put them into words."""
    figures = summarise(checkpoints)
    settings = provenance.settings
    circumstances = Circumstances(
        recipe=settings["recipe"],
        samples=settings["samples"],
        temperature=settings["temperature"],
        max_new_tokens=settings["max_new_tokens"],
        notices=provenance.notices,
    )
    verdict = write_verdict(figures.checkpoints, figures.trend, figures.query_types, circumstances)
    return Evaluation(verdict=verdict, method=METHOD, **dict(figures), **dict(provenance))


def write_evaluation(run: Path, evaluation: Evaluation) -> Path:
    """Replace `evaluation.json` of the run in one move; return its path."""
    path = run / FILE_NAME
    replace_text(path, evaluation.model_dump_json(indent=2) + "\n")
    return path


def read_evaluation(run: Path) -> Evaluation:
    """Read `evaluation.json` of the run; raise `EvaluationError` when it is missing or of another version."""
    path = run / FILE_NAME
    try:
        return Evaluation.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise EvaluationError(
            f"{path} is missing: run `python -m reward_evidence.evaluate --run-dir {run}` first"
        ) from exc
    except ValidationError as exc:
        raise EvaluationError(f"{path} was written by another version: evaluate the run again") from exc
