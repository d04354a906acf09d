"""Rewards of the samples, by recipe and from the gold model, kept on disk prompt by prompt.

    samples of a prompt ──POST /score──▶ one line of DIR/scores/NAME.jsonl
    recipe, models, overrides ─────────▶ DIR/scores/NAME.json

A line is used again when it belongs to the same responses, and the file when it was written with the same recipe
and models. The gold model scores each sample once, also for several recipes.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from reward_client.errors import RewardRejectedError
from reward_client.info import changed_models, find_recipe, model_identity
from reward_client.wire import Info, Item, ItemResult, RecipeName, ScoreReply
from reward_client.writing import writing
from reward_evidence.best_of_n.figures import GOLD
from reward_evidence.best_of_n.line_file import LineFile
from reward_evidence.best_of_n.samples_file import PromptSamples, progress
from reward_evidence.evaluation.evaluation_run import MAX_ITEMS
from reward_evidence.evaluation.store import Scorer, scored_item, unique
from reward_evidence.sampling.samples import Sample
from reward_evidence.statistics.monotonicity import FloatArray
from reward_runs.errors import EvaluationError
from reward_runs.files import replace_text
from reward_runs.prompts import Prompt

FOLDER = "scores"
_LOG_EVERY_S = 5.0


class ScoreLine(BaseModel):
    """The rewards of all samples of a prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt_id: str
    responses_sha256: str
    """Of prompt, reference and responses."""
    rewards: list[float]
    golds: dict[str, list[float]] = {}
    """Scores of all gold models by id, the primary one first; only if they are several, and were asked for."""
    notices: list[str] = []
    """Those of the service's reply."""


def check_gold(info: Info) -> None:
    """Raise EvaluationError when the service has no gold model."""
    if info.gold is None:
        raise EvaluationError(
            "the reward service has no gold model to judge the responses: start it with --gold demo-gold, or "
            "another model"
        )


@dataclass(frozen=True)
class _Task:
    """What to request of the service, and which number of a result is the reward."""

    name: str
    options: dict[str, Any]
    value: Callable[[ItemResult], float | None]


@dataclass
class SampleScores:
    """Scores samples through the reward service."""

    folder: Path
    scorer: Scorer
    info: Info
    system_prompt: str | None
    log: Callable[[str], None]
    notices: list[str] = field(default_factory=list)
    """Those of the service, in order."""

    def __post_init__(self) -> None:
        self._recipes: dict[str, RecipeName] = {}

    def gold(self, prompts: Sequence[Prompt], samples: PromptSamples) -> tuple[FloatArray, dict[str, FloatArray]]:
        """The scores of `samples` by the primary gold model, and by each other one by id: (P, N)."""
        known = [recipe.name for recipe in self.info.recipes]
        recipe = GOLD if GOLD in known else self.info.default_recipe  # the recipe `gold` needs no encoder
        task = _Task(GOLD, {"recipe": recipe, "gold": True}, lambda result: result.gold_reward)
        lines = self._lines(task, prompts, samples)
        others = [model.id for model in self.info.golds[1:]]
        return _rewards(lines), {name: np.array([line.golds[name] for line in lines]) for name in others}

    def recipe(
        self, name: str, overrides: Mapping[str, Any], prompts: Sequence[Prompt], samples: PromptSamples
    ) -> FloatArray:
        """The rewards of `samples` by a recipe: (P, N)."""
        options = {"recipe": name, "recipe_overrides": dict(overrides), "gold": False}
        return _rewards(self._lines(_Task(name, options, lambda result: result.reward), prompts, samples))

    def _lines(self, task: _Task, prompts: Sequence[Prompt], samples: PromptSamples) -> list[ScoreLine]:
        """The rewards of all prompts, in their order; scores those that the file lacks."""
        path = self.folder / FOLDER / f"{re.sub(r'[^A-Za-z0-9._-]', '_', task.name)}.jsonl"
        file = LineFile(path, ScoreLine)
        self._start(file, task.options)
        hashes = {prompt.id: _sha256(samples[prompt.id]) for prompt in prompts}
        lines = [line for line in file.read() if line.responses_sha256 == hashes.get(line.prompt_id)]
        self._add_notices(lines)
        found = {line.prompt_id: line for line in lines}
        missing = [prompt for prompt in prompts if prompt.id not in found]
        started_s, logged_s, n_before = time.monotonic(), 0.0, len(found)
        size = max(1, MAX_ITEMS // len(samples[prompts[0].id]))
        for begin in range(0, len(missing), size):
            group = [samples[prompt.id] for prompt in missing[begin : begin + size]]
            lines = self._score(task, group, hashes)
            file.append(lines)
            self._add_notices(lines)
            found |= {line.prompt_id: line for line in lines}
            if len(found) == len(prompts) or time.monotonic() - logged_s > _LOG_EVERY_S:
                logged_s = time.monotonic()
                self.log(f"scores of {task.name}: {progress(len(found), len(prompts), n_before, started_s)}")
        return [found[prompt.id] for prompt in prompts]

    def _add_notices(self, lines: Sequence[ScoreLine]) -> None:
        self.notices = unique([*self.notices, *(notice for line in lines for notice in line.notices)])

    def _start(self, file: LineFile[ScoreLine], options: dict[str, Any]) -> None:
        """Keep the file if it was written with the same recipe, models and options; else begin a new one."""
        recipe = find_recipe(self.info, options["recipe"])
        settings = {
            **options,
            "recipe_hash": recipe.hash,
            "relevance": model_identity(self.info.relevance) if recipe.needs_encoder else None,
            "gold_model": model_identity(self.info.gold) if options["gold"] or recipe.needs_gold else None,
            "system_prompt": self.system_prompt,
        }
        if options["gold"] and self.info.golds:
            settings["gold_models"] = {model.id: model.revision for model in self.info.golds}
        record = file.path.with_suffix(".json")
        text = json.dumps(settings, indent=2) + "\n"
        if record.is_file() and record.read_text(encoding="utf-8") == text:
            return
        if file.path.is_file():
            self.log(f"{file.path.name} was written with another recipe or model: all samples are scored again")
        with writing(file.path):
            file.path.unlink(missing_ok=True)
            file.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(record, text)

    def _score(self, task: _Task, group: Sequence[Sequence[Sample]], hashes: Mapping[str, str]) -> list[ScoreLine]:
        """Score all samples of several prompts, in requests of at most MAX_ITEMS."""
        items = [scored_item(sample, self.system_prompt) for samples in group for sample in samples]
        results: list[ItemResult] = []
        notices: list[str] = []
        for begin in range(0, len(items), MAX_ITEMS):
            reply = self._request(task, items[begin : begin + MAX_ITEMS])
            notices += reply.notices
            results += reply.results
        lines = []
        for samples in group:
            own, results = results[: len(samples)], results[len(samples) :]
            key = samples[0].prompt.id
            lines.append(
                ScoreLine(
                    prompt_id=key,
                    responses_sha256=hashes[key],
                    rewards=[_required(task, result) for result in own],
                    golds={name: [result.golds[name] for result in own] for name in own[0].golds},
                    notices=unique(notices),
                )
            )
        return lines

    def _request(self, task: _Task, items: Sequence[Item]) -> ScoreReply:
        try:
            reply = self.scorer.score(items, **task.options)
        except RewardRejectedError as exc:
            named = [f"response {items[index].id}: {e.message}" for index, e in exc.errors_by_item.items()]
            cause = "; ".join(named[:5]) or str(exc)
            raise EvaluationError(f"the service cannot score with recipe {task.name}: {cause}") from exc
        if changed := changed_models(self.info, reply.models, gold=task.options["gold"]):
            raise EvaluationError(f"the service changed its {changed}: run the same command again")
        if self._recipes.setdefault(task.name, reply.recipe) != reply.recipe:
            raise EvaluationError(f"the service changed the recipe {task.name}: run the same command again")
        return reply


def _rewards(lines: Sequence[ScoreLine]) -> FloatArray:
    return np.array([line.rewards for line in lines])


def _required(task: _Task, result: ItemResult) -> float:
    reward = task.value(result)
    if reward is None:  # impossible with on_item_error="fail", the default
        raise EvaluationError(f"the service returned no {task.name} reward for {result.id}: {result.error}")
    return reward


def _sha256(samples: Sequence[Sample]) -> str:
    prompt = samples[0].prompt
    content = [prompt.prompt, prompt.reference, prompt.query_type, [sample.response for sample in samples]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
