"""One evaluation from start to end: which settings, which checkpoints are left, in which order things are written.

    EvaluationRun.run:  checkpoint ──▶ finished under these settings? ──▶ reuse
                             └─▶ responder ──▶ scorer ──▶ evaluation/STEP.jsonl, STEP.json
                  all of them ──▶ evaluation.json

Model and service come in as a `Sampler` and a `Scorer`, so this has neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from reward_client.wire import Info, RecipeInfo
from reward_evidence.evaluation.evaluation import Evaluation, Provenance, evaluate_figures, write_evaluation
from reward_evidence.evaluation.scoring import Scorer, score_samples, unique
from reward_evidence.evaluation.store import EvaluationError, Finished, find_finished, record_of, save
from reward_evidence.sampling.samples import Sampler, SamplingSettings
from reward_evidence.statistics.summary import CheckpointResponses
from reward_runs.run_reader import Checkpoint, RunReader

__all__ = ["MAX_ITEMS", "EvaluationRun", "find_recipe", "wants_gold"]

MAX_ITEMS = 64
"""Items a scoring request, at most: a gold model on a CPU then answers well within the client's timeout."""
_ENGINE_UNKNOWN = "rollout engine: not recorded in config.json"
_LIBRARIES = ("glassbox-reward", "torch", "transformers", "numpy", "scipy")


def find_recipe(name: str, info: Info) -> RecipeInfo:
    """Return the service's recipe `name`; raise `EvaluationError` with the known ones."""
    found = {recipe.name: recipe for recipe in info.recipes}
    if name not in found:
        raise EvaluationError(f"the reward service knows no recipe {name!r}; it knows {', '.join(sorted(found))}")
    return found[name]


def wants_gold(asked: bool | None, info: Info) -> bool:
    """Whether to score with gold: as asked, else when the service has it; raise when it is asked for in vain."""
    if asked and info.gold is None:
        raise EvaluationError(
            "--gold was given, and the reward service has no gold model: start it with --gold demo-gold or a model"
        )
    return info.gold is not None if asked is None else asked


@dataclass
class EvaluationRun:
    """One evaluation of a run."""

    folder: RunReader
    checkpoints: Sequence[Checkpoint]
    """Those to evaluate, by step, at least one."""
    start: Checkpoint | None
    """Where the divergence is measured from."""
    draw_settings: SamplingSettings
    info: Info
    recipe: RecipeInfo
    gold: bool
    say: Callable[[str], None]

    def run(self, make_responder: Callable[[], Sampler], scorer: Scorer) -> Evaluation:
        """Evaluate what is not finished, and write `evaluation.json`.

        `make_responder` is called when a checkpoint needs it, so nothing is loaded when none does. Raises
        `EvaluationError`, or `RewardError` when the service fails; what is finished by then stays.
        """
        done = {checkpoint.step: self._find(checkpoint) for checkpoint in self.checkpoints}
        missing = [checkpoint for checkpoint in self.checkpoints if done[checkpoint.step] is None]
        if len(missing) < len(done):
            self.say(f"{len(done) - len(missing)} of {len(done)} checkpoints are evaluated already")
        if missing:
            responder = make_responder()
            started_s = time.monotonic()
            for index, checkpoint in enumerate(missing):
                done[checkpoint.step] = self._evaluate(
                    checkpoint, responder, scorer, f"[{index + 1}/{len(missing)}]"
                )
                self._say_time_left(time.monotonic() - started_s, index + 1, len(missing))
        evaluation = evaluate_figures(self._responses(done), self._provenance(done))
        write_evaluation(self.folder.run.path, evaluation)
        return evaluation

    def _find(self, checkpoint: Checkpoint) -> Finished | None:
        return find_finished(self.folder.evaluation, checkpoint.step, self._settings(checkpoint))

    def _evaluate(self, checkpoint: Checkpoint, responder: Sampler, scorer: Scorer, place: str) -> Finished:
        started_s = time.monotonic()
        name = f"{place} step {checkpoint.step}"
        self.say(f"{name}: answering {len(self.folder.prompts)} held-out prompts")
        samples = responder.respond(
            checkpoint,
            self.folder.prompts,
            lambda n, of: self.say(f"{name}: {n} of {of} responses, {time.monotonic() - started_s:.0f} s"),
        )
        scored = score_samples(
            scorer,
            samples,
            system_prompt=self.folder.config.system_prompt,
            max_items=min(MAX_ITEMS, self.info.limits.max_items),
            options={
                "recipe": self.recipe.name,
                "recipe_overrides": self.folder.config.recipe_overrides,
                "gold": self.gold,
                "run": self.folder.run.name,
                "step": checkpoint.step,
            },
        )
        record = record_of(
            checkpoint.step,
            self._settings(checkpoint),
            scored.responses,
            recipe=scored.recipe,
            models=scored.models,
            notices=scored.notices,
            duration_s=time.monotonic() - started_s,
        )
        finished = Finished(record=record, responses=scored.responses)
        save(self.folder.evaluation, finished)
        return finished

    def _say_time_left(self, elapsed_s: float, n_done: int, n_all: int) -> None:
        left_s = elapsed_s / n_done * (n_all - n_done)
        if n_done < n_all:
            self.say(f"about {left_s / 60:.0f} min left" if left_s >= 90 else f"about {left_s:.0f} s left")

    def _settings(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """All that the responses of `checkpoint` and their scores depend on."""
        return {
            **self._common_settings(),
            "weights_sha256": checkpoint.weights_sha256,
            "start_sha256": self.start.weights_sha256 if self.start else None,
        }

    def _common_settings(self) -> dict[str, Any]:
        return {
            **asdict(self.draw_settings),
            "recipe": self.recipe.name,
            "recipe_hash": self.recipe.hash,
            "recipe_overrides": self.folder.config.recipe_overrides,
            "relevance": _identity(self.info.relevance),
            "gold": _identity(self.info.gold) if self.gold else None,
            "heldout_sha256": self.folder.prompts_sha256,
        }

    def _responses(self, done: dict[int, Finished | None]) -> list[CheckpointResponses]:
        return [
            CheckpointResponses(step=c.step, weights_sha256=c.weights_sha256, responses=finished.responses)
            for c in self.checkpoints
            if (finished := done[c.step]) is not None
        ]

    def _provenance(self, done: dict[int, Finished | None]) -> Provenance:
        records = [finished.record for finished in done.values() if finished is not None]
        return Provenance(
            run=self.folder.run.name,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=self._common_settings(),
            service={
                "recipe": records[-1].recipe.model_dump(),
                "recipe_description": self.recipe.description,
                "relevance": _identity(self.info.relevance),
                "gold": _identity(self.info.gold) if self.gold else None,
                "version": self.info.version,
                "versions": self.info.versions,
            },
            versions={name: metadata.version(name) for name in _LIBRARIES},
            hashes={
                "held-out prompts": self.folder.prompts_sha256,
                **{f"weights of step {c.step}": c.weights_sha256 for c in self.checkpoints},
            },
            features=self.info.features,
            notices=self._notices([notice for record in records for notice in record.notices]),
            rollout_engine=self.folder.config.rollout_engine or _ENGINE_UNKNOWN,
        )

    def _notices(self, of_replies: list[str]) -> list[str]:
        of_gold = self.info.gold.notices if self.info.gold and self.gold else []
        notices = [*of_replies, *of_gold]
        if self.folder.config.recipe_hash not in (None, self.recipe.hash):
            notices.append(
                f"The service's recipe {self.recipe.name} is not the one the run was trained with: hash "
                f"{self.recipe.hash} now, {self.folder.config.recipe_hash} then."
            )
        if len(self.checkpoints) < len(self.folder.checkpoints):
            notices.append(
                "Only some of the checkpoints were evaluated, chosen by hand: the primary figure is not the one "
                "that was fixed beforehand."
            )
        planned, last = self.folder.config.steps, self.checkpoints[-1].step
        if planned is not None and last < planned:
            notices.append(f"The run was to have {planned} steps; this compares the start with step {last}.")
        if self.folder.incomplete:
            steps = ", ".join(map(str, self.folder.incomplete))
            notices.append(f"Left out, because not written to the end: the checkpoint of step {steps}.")
        return unique(notices)


def _identity(model: Any) -> dict[str, str] | None:
    return None if model is None else {"id": model.id, "revision": model.revision}
