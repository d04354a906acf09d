"""Evaluated runs for tests of comparisons: real files, gold and proxy given by a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reward_client.wire import FeatureInfo, ModelNames, RecipeName, ScoreReply, TimingMs
from reward_evidence.evaluation.evaluation import Provenance, evaluate_figures, write_evaluation
from reward_evidence.evaluation.store import EvaluatedResponse, evaluated_step, save
from reward_evidence.statistics.summary import CheckpointResponses
from reward_runs.layout import RunDir
from reward_runs.record import RunRecord
from tests.unit.evidence_run import evaluated_response, unit_noise

Score = Callable[[int, int], float]
"""(step, prompt) → gold."""

STEPS = (0, 2, 4, 6)
GOLD = {"id": "demo-gold", "revision": "bbbb"}


def rising(slope: float, *, seed: int = 0, seed_effect: float = 0.0, noise: float = 0.1) -> Score:
    """Gold that rises by `slope` a step on every prompt, and by `seed_effect` more until the end."""

    def gold(step: int, prompt: int) -> float:
        of_seed = seed_effect * step / STEPS[-1]
        return 0.5 * unit_noise(prompt) + slope * step + of_seed + noise * unit_noise(seed, step, prompt)

    return gold


def make_evaluated(
    folder: Path,
    gold: Score | None,
    *,
    recipe: str = "rer",
    seed: int | None = 1,
    steps: Sequence[int] = STEPS,
    prompts: Sequence[int] = range(24),
    text: Callable[[int], str] = "Why does it rain, {}?".format,
    response: str | Callable[[int, int], str] = "Because of the rain.",
    truncated: Callable[[int, int], bool] = lambda step, prompt: False,
    notices: Sequence[str] = (),
    record: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    others: Mapping[str, Score] | None = None,
) -> Path:
    """Write a run directory with an evaluation, or without a record if `seed` is None.

    `settings` replace those of the evaluation, `record` adds to `config.json`; `others` are the scores of gold
    models beside the primary one. A function for `response` or `truncated` takes step and prompt.
    """
    folder.mkdir(parents=True)
    evaluated = {
        "recipe": recipe,
        "recipe_hash": f"hash-{recipe}",
        "recipe_overrides": {},
        "relevance": {"id": "all-MiniLM-L6-v2", "revision": "aaaa"},
        "gold": GOLD if gold else None,
        "samples": 1,
        "temperature": 0.7,
        "max_new_tokens": 128,
        "system_prompt": None,
        "seed": seed,
        **({"golds": [GOLD, *({"id": name, "revision": "cccc"} for name in others)]} if others else {}),
        **(settings or {}),
    }
    checkpoints = [
        CheckpointResponses(
            step=step,
            weights_sha256=f"{recipe}-{seed}-{step}",
            responses=[
                _response(step, prompt, gold, others or {}).model_copy(
                    update={
                        "prompt": text(prompt),
                        "response": response if isinstance(response, str) else response(step, prompt),
                        "truncated": truncated(step, prompt),
                    }
                )
                for prompt in prompts
            ],
        )
        for step in steps
    ]
    for one in checkpoints:
        save(folder / "evaluation", evaluated_step(one.step, evaluated, one.responses, [_reply(recipe)], 1.0))
    provenance = Provenance(
        source="responses" if seed is None else "run",
        run=folder.name,
        created_at="2026-11-27T00:00:00+00:00",
        settings=evaluated,
        service={},
        versions={},
        hashes={},
        features=[FeatureInfo(name="length_incentive", label="Length"), FeatureInfo(name="x", label="Relevance")],
        notices=list(notices),
        rollout_engine="rollout engine: none",
    )
    write_evaluation(folder, evaluate_figures(checkpoints, provenance))
    if seed is not None:
        values = {"policy": "small", "steps": steps[-1], "learning_rate": 1e-5, **(record or {})}
        RunRecord.model_validate({"seed": seed, "max_new_tokens": 128, "recipe": recipe, **values}).write(
            RunDir(folder)
        )
    return folder


def _response(step: int, prompt: int, gold: Score | None, others: Mapping[str, Score]) -> EvaluatedResponse:
    golds = {GOLD["id"]: gold, **others} if gold and others else {}
    factors = {"length_incentive": 0.4 + 0.05 * step, "query_relevance": 0.8 + 0.02 * unit_noise(prompt)}
    return evaluated_response(
        f"p{prompt:03d}",
        factors,
        gold=gold(step, prompt) if gold else None,
        features={"length_incentive": factors["length_incentive"], "x": factors["query_relevance"]},
        kl=0.5 * step + 0.01,
        golds={name: score(step, prompt) for name, score in golds.items()},
    )


def _reply(recipe: str) -> ScoreReply:
    return ScoreReply(
        rewards=[],
        results=[],
        recipe=RecipeName(name=recipe, hash=f"hash-{recipe}"),
        models=ModelNames(relevance="all-MiniLM-L6-v2", gold="demo-gold"),
        timing_ms=TimingMs(queue=0, encode=1, gold=None, total=1),
        notices=[],
    )
