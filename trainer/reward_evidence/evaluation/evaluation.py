"""`evaluation.json`: the figures of an evaluation, how they were measured, and the verdict."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from reward_client.wire import FeatureInfo, QueryType
from reward_evidence.statistics.circumstances import Circumstances
from reward_evidence.statistics.golds import SeveralGolds
from reward_evidence.statistics.run_warnings import RunWarning, find_warnings
from reward_evidence.statistics.summary import CheckpointFigures, CheckpointResponses, Trend, summarise
from reward_evidence.statistics.verdict import VerdictText, write_verdict
from reward_runs.errors import EvaluationError
from reward_runs.files import replace_text

FILE_NAME = "evaluation.json"

METHOD = {
    "means": "Samples of a prompt are averaged first; means and intervals are over prompts.",
    "intervals of means and changes": "95 %, Student's t over prompts; changes are paired by prompt.",
    "primary figure": "Mean gold reward, last checkpoint minus first, paired by prompt; fixed beforehand.",
    "parts of the proxy change": (
        "Shapley values over the factors that were multiplied, from the first checkpoint to the last: what "
        "replacing a factor adds, averaged over all orders. Samples are paired each with each within a prompt. "
        "The parts sum to the change; intervals are percentile bootstraps over prompts."
    ),
    "gold at equal length or truncation": (
        "Diagnostic. Intercept of least squares over prompts, change of gold on change of the covariate; "
        "percentile bootstrap over prompts. It assumes one slope for all prompts and no other change that goes "
        "with it."
    ),
    "gold win rate": "Prompts whose last response has the higher gold reward, ties half; Wilson's interval.",
    "ρ": "Spearman's rank correlation of mean proxy and mean gold reward over checkpoints.",
    "p-value of ρ": "Two-sided permutation test; it assumes exchangeable checkpoints, which they are not.",
    "interval of ρ": "95 %, percentile bootstrap over prompts.",
    "KL": (
        "Nats per response, from the initial policy, at the sampling temperature: the sum, over the sampled "
        "tokens, of the exact divergence of each next-token distribution. kl_k1 is its log-ratio estimate."
    ),
    "several gold models": (
        "Headline, verdict and all other figures are of the primary one. Agreement of two: share of prompts whose "
        "change has the same sign (half where one sees none), Wilson's interval; Spearman's ρ of the changes, "
        "percentile bootstrap over prompts. Intervals are not adjusted for the number of models."
    ),
    "random numbers": (
        "Responses are sampled in fixed batches of prompts; the generator is seeded for each batch, with the same "
        "seed at every checkpoint. Checkpoints share random numbers until a response of the batch ends."
    ),
    "words": "Runs of word characters and runs of other visible characters, as the paper counts them.",
}


SourceKind = Literal["run", "checkpoints", "responses"]
"""What was evaluated: a run directory, a folder of checkpoints, or a file of responses."""


class Provenance(BaseModel):
    """How the figures were measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: SourceKind = "run"
    run: str
    created_at: str
    """ISO 8601, UTC."""
    settings: dict[str, Any]
    """Settings of the evaluation; those of the run are in its `config.json`."""
    service: dict[str, Any]
    """Recipe with hash, models with revisions, and versions of the reward service."""
    versions: dict[str, str]
    """Versions of the libraries of the evaluation."""
    hashes: dict[str, str]
    features: list[FeatureInfo] = []
    """The service's features, with the labels that charts use."""
    notices: list[str]
    """Notices of the service, verbatim, and those of the evaluation."""
    rollout_engine: str


class Evaluation(Provenance):
    """The content of `evaluation.json`."""

    verdict: VerdictText
    warnings: list[RunWarning] = []
    """Signs at the last checkpoint that the run goes wrong."""
    trend: Trend
    """First to last checkpoint, all prompts."""
    query_types: dict[QueryType, Trend]
    checkpoints: list[CheckpointFigures]
    golds: SeveralGolds | None = None
    """What each of several gold models says; the verdict rests on the first, the primary one."""
    method: dict[str, str]


def evaluate_figures(checkpoints: Sequence[CheckpointResponses], provenance: Provenance) -> Evaluation:
    """Compute all figures of `checkpoints` (by step, at least one) and describe them."""
    figures = summarise(checkpoints)
    settings = provenance.settings
    counts = [  # responses of one checkpoint to one prompt
        count
        for one in checkpoints
        for count in Counter(response.prompt_id for response in one.responses).values()
    ]
    circumstances = Circumstances(
        recipe=settings["recipe"],
        samples=(min(counts), max(counts)),
        temperature=settings["temperature"],
        max_new_tokens=settings["max_new_tokens"],
        notices=provenance.notices,
        heldout=provenance.source == "run",
        labels={feature.name: feature.label for feature in provenance.features},
    )
    verdict = write_verdict(figures.checkpoints, figures.trend, figures.query_types, circumstances, figures.golds)
    first, last = checkpoints[0].responses, checkpoints[-1].responses
    limit = settings["max_new_tokens"]
    warnings = find_warnings(figures.checkpoints, figures.trend, first, last, limit)
    return Evaluation(verdict=verdict, warnings=warnings, method=METHOD, **dict(figures), **dict(provenance))


def write_evaluation(folder: Path, evaluation: Evaluation) -> Path:
    """Replace `evaluation.json` in `folder` atomically; return its path."""
    path = folder / FILE_NAME
    replace_text(path, evaluation.model_dump_json(indent=2) + "\n")
    return path


def read_evaluation(folder: Path) -> Evaluation:
    """Read `evaluation.json` in `folder`; raise EvaluationError when it is missing or has another format."""
    path = folder / FILE_NAME
    try:
        return Evaluation.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise EvaluationError(f"{path} is missing: run `glassbox evaluate --run-dir {folder}` first") from exc
    except (ValidationError, UnicodeDecodeError) as exc:
        raise EvaluationError(f"{path} was written by another version of glassbox-reward: evaluate again") from exc
