"""One evaluation from start to end: which settings, which steps remain, in which order files are written.

    EvaluationRun.run:  step ──▶ evaluated with these settings before? ──▶ reuse
                          └─▶ sampler ──▶ scorer ──▶ evaluation/STEP.jsonl, STEP.json
                  all of them ──▶ evaluation.json

The policy and the service are passed in as a `Sampler` and a `Scorer`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from reward_client.info import changed_models, model_identity
from reward_client.wire import Info, ModelInfo, RecipeInfo
from reward_client.writing import writing
from reward_evidence.evaluation.evaluation import Evaluation, Provenance, evaluate_figures, write_evaluation
from reward_evidence.evaluation.shared_base import gold_notices
from reward_evidence.evaluation.source import EvaluationSource
from reward_evidence.evaluation.store import (
    EvaluatedStep,
    Scorer,
    evaluated_step,
    find_evaluated,
    save,
    score_samples,
    unique,
)
from reward_evidence.report.formatting import duration
from reward_evidence.sampling.samples import Sampler, SamplingSettings
from reward_evidence.statistics.summary import CheckpointResponses
from reward_runs.checkpoints import Checkpoint
from reward_runs.errors import EvaluationError
from reward_runs.provenance import versions

MAX_ITEMS = 64
"""Maximum items per scoring request, so that a gold model on a CPU replies well within the client's timeout."""
_LIBRARIES = ("glassbox-reward", "torch", "transformers", "numpy", "scipy")


def use_gold(requested: bool | None, info: Info) -> bool:
    """Return whether to score with gold: as requested, by default if the service has a gold model."""
    if requested and info.gold is None:
        raise EvaluationError(
            "--gold was given, but the reward service has no gold model: start it with --gold demo-gold or a model"
        )
    return info.gold is not None if requested is None else requested


@dataclass
class EvaluationRun:
    """One evaluation of a source."""

    source: EvaluationSource
    steps: Sequence[int]
    """Steps to evaluate, in order, at least one."""
    sampling: SamplingSettings | None
    """None: the responses are recorded."""
    info: Info
    recipe: RecipeInfo
    gold: bool
    log: Callable[[str], None]

    @property
    def initial(self) -> Checkpoint | None:
        """The policy that the divergence is measured from; None: it is not measured."""
        return self.source.initial if self.sampling is not None and self.sampling.kl else None

    def run(self, make_sampler: Callable[[], Sampler], scorer: Scorer) -> Evaluation:
        """Evaluate the remaining steps, and write `evaluation.json`.

        `make_sampler` is called for the first step that is not evaluated yet, so nothing is loaded without
        one. Raises EvaluationError, or RewardError when the service fails; finished steps are kept.
        """
        with writing(self.source.out):
            self.source.out.mkdir(parents=True, exist_ok=True)
        folder = self.source.out / "evaluation"
        evaluated = {
            step: found
            for step in self.steps
            if (found := find_evaluated(folder, step, self._settings(step))) is not None
        }
        remaining = [step for step in self.steps if step not in evaluated]
        if evaluated:
            self.log(f"{len(evaluated)} of {len(self.steps)} checkpoints are evaluated already")
        if remaining:
            sampler = make_sampler()
            started_s = time.monotonic()
            for index, step in enumerate(remaining):
                evaluated[step] = self._evaluate(step, sampler, scorer, f"[{index + 1}/{len(remaining)}]")
                if left := len(remaining) - index - 1:
                    self.log(f"about {duration((time.monotonic() - started_s) / (index + 1) * left)} remaining")
        ordered = [evaluated[step] for step in self.steps]
        checkpoints = [
            CheckpointResponses(
                step=one.record.step,
                weights_sha256=one.record.settings.get("weights_sha256"),
                responses=one.responses,
            )
            for one in ordered
        ]
        evaluation = evaluate_figures(checkpoints, self._provenance(ordered))
        write_evaluation(self.source.out, evaluation)
        return evaluation

    def _evaluate(self, step: int, sampler: Sampler, scorer: Scorer, progress: str) -> EvaluatedStep:
        started_s = time.monotonic()
        prefix = f"{progress} step {step}"
        self.log(f"{prefix}: responses to {len(self.source.prompts)} prompts")
        samples = sampler.respond(
            step,
            self.source.prompts,
            lambda n, of: self.log(f"{prefix}: {n} of {of} responses, {time.monotonic() - started_s:.0f} s"),
        )
        responses, replies = score_samples(
            scorer,
            samples,
            system_prompt=self.source.system_prompt,
            max_items=min(MAX_ITEMS, self.info.limits.max_items),
            options={
                "recipe": self.recipe.name,
                "recipe_overrides": self.source.recipe_overrides,
                "gold": self.gold,
                "run": self.source.name,
                "step": step,
            },
        )
        if changed := changed_models(self.info, replies[0].models, gold=self.gold):
            raise EvaluationError(f"the service changed its {changed}, or one was loading: evaluate again")
        duration_s = time.monotonic() - started_s
        evaluated = evaluated_step(step, self._settings(step), responses, replies, duration_s)
        save(self.source.out / "evaluation", evaluated)
        return evaluated

    def _settings(self, step: int) -> dict[str, Any]:
        """Return everything that the responses of `step` and their scores depend on."""
        for checkpoint in self.source.checkpoints:
            if checkpoint.step == step:
                initial = self.initial
                return {
                    **self._common_settings(),
                    "weights_sha256": checkpoint.weights_sha256,
                    "start_sha256": initial.weights_sha256 if initial else None,
                }
        recorded = next(one for one in self.source.recorded if one.step == step)
        return {**self._common_settings(), "responses_sha256": recorded.sha256}

    def _common_settings(self) -> dict[str, Any]:
        sampling: Mapping[str, Any] = (
            {
                "samples": None,
                "temperature": None,
                "max_new_tokens": None,
                "system_prompt": self.source.system_prompt,  # the service scores the prompt with it
            }
            if self.sampling is None
            else asdict(self.sampling)
        )
        return {
            **sampling,
            "recipe": self.recipe.name,
            "recipe_hash": self.recipe.hash,
            "recipe_overrides": self.source.recipe_overrides,
            "relevance": model_identity(self.info.relevance),
            "gold": model_identity(self.info.gold) if self.gold else None,
            **(
                {"golds": [model_identity(one) for one in self.info.golds]}
                if self.gold and self.info.golds
                else {}
            ),
            "heldout_sha256": self.source.prompts_sha256,
        }

    def _provenance(self, evaluated: Sequence[EvaluatedStep]) -> Provenance:
        records = [one.record for one in evaluated]
        golds = (
            [{"id": one.id, "revision": one.revision, "notices": self._notices_of(one)} for one in self.info.golds]
            if self.gold
            else []
        )
        beside = {notice for one in golds[1:] for notice in one["notices"]} - set(self._primary_notices)
        hashes = {
            f"{'weights' if 'weights_sha256' in record.settings else 'responses'} of step {record.step}": str(
                record.settings.get("weights_sha256") or record.settings.get("responses_sha256")
            )
            for record in records
        }
        return Provenance(
            source=self.source.kind,
            run=self.source.name,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=self._common_settings(),
            service={
                "recipe": records[-1].recipe.model_dump(),
                "recipe_description": self.recipe.description,
                "relevance": model_identity(self.info.relevance),
                "gold": model_identity(self.info.gold) if self.gold else None,
                **({"golds": golds} if golds else {}),
                "version": self.info.version,
                "versions": self.info.versions,
            },
            versions=versions(_LIBRARIES),
            hashes={
                "held-out prompts" if self.source.kind == "run" else "prompts": self.source.prompts_sha256,
                **hashes,
            },
            features=self.info.features,
            notices=unique(
                [notice for record in records for notice in record.notices if notice not in beside]
                + self._notices()
            ),
            rollout_engine=self.source.rollout_engine,
        )

    @property
    def _primary_notices(self) -> list[str]:
        return self._notices_of(self.info.gold) if self.info.gold and self.gold else []

    def _notices_of(self, gold: ModelInfo) -> list[str]:
        return gold_notices(gold, self.source.policy)

    def _notices(self) -> list[str]:
        source, notices = self.source, self._primary_notices
        if source.trained_recipe_hash not in (None, self.recipe.hash):
            notices.append(
                f"The recipe {self.recipe.name} of the service differs from that of the training: "
                f"its hash is {self.recipe.hash} now and was {source.trained_recipe_hash} then."
            )
        if len(self.steps) < len(source.steps):
            notices.append(
                "Only selected checkpoints were evaluated: the primary figure is not the one that was fixed "
                "beforehand."
            )
        if source.planned_steps is not None and self.steps[-1] < source.planned_steps:
            notices.append(
                f"The run was planned with {source.planned_steps} steps; this evaluation compares the start with "
                f"step {self.steps[-1]}."
            )
        if source.incomplete:
            steps = ", ".join(map(str, source.incomplete))
            notices.append(f"Excluded, because not written completely: the checkpoint of step {steps}.")
        if self.sampling is None:
            notices.append(
                "KL divergence, response length in tokens and truncation are not available: the responses were "
                "read from a file, and no policy was loaded."
            )
        elif source.initial is None:
            notices.append("KL divergence is not available: there is no checkpoint of step 0 to measure it from.")
        return notices
