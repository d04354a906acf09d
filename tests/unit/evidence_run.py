"""A run directory and a fake reward service for tests: real files, real wire types, known trends."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from reward_client.wire import (
    Attribution,
    Info,
    Item,
    ItemResult,
    LimitsInfo,
    ModelInfo,
    ModelNames,
    RecipeInfo,
    RecipeName,
    ScoreReply,
    TimingMs,
)
from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.evaluation.evaluation_run import EvaluationRun
from reward_evidence.evaluation.source import from_run
from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.sampling.samples import Divergence, Sample, SamplingSettings, batch_seed
from reward_evidence.statistics.summary import CheckpointResponses, RunFigures, summarise
from reward_runs.prompts import Prompt, load_embedded

DEMO_NOTICE = "demo model, not a judge of quality"
SHARED_NOTICE = (
    "the gold model demo-gold is fitted on all-MiniLM-L6-v2, which is also the relevance encoder: "
    "where the two agree, that is not independent evidence"
)

_SENTENCES = (
    "Rain forms when warm air rises, cools, and can no longer hold its water.",
    "A good answer names the reason first and gives an example after it.",
    "You could begin with a short walk before breakfast and see how it feels.",
    "Most people find that a list on paper helps more than an application.",
    "In short, it depends on how much time you have and on whom you ask.",
    "The capital is Ljubljana, a city on a river with a castle above it.",
    "First cut the onions, then warm the oil, and only then add the rice.",
    "It is often said that bees see colours that are hidden from us.",
)


def info(*, gold: bool = True, notices: Sequence[str] = (DEMO_NOTICE, SHARED_NOTICE)) -> Info:
    """The reply of the fake service to `GET /info`."""
    recipe = RecipeInfo(
        name="rer",
        hash="c0ffee00",
        description="length x relevance x repetition",
        reward_range=(0.0, 5.12),
        calibrated_for=None,
        needs_encoder=True,
        needs_gold=False,
        parameters={"max_response_tokens": 512},
    )
    return Info(
        version="0.1.0",
        default_recipe="rer",
        recipes=[recipe],
        relevance=ModelInfo(id="all-MiniLM-L6-v2", revision="aaaa", device="cpu"),
        gold=ModelInfo(id="demo-gold", revision="bbbb", device="cpu", notices=list(notices)) if gold else None,
        limits=LimitsInfo(max_body_bytes=10_000_000, max_items=50, max_text_chars=100_000),
        versions={"torch": "2.13.0"},
    )


def unit_noise(*parts: object) -> float:
    """A standard normal number, determined by `parts`."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return float(np.random.default_rng(int.from_bytes(digest[:8], "little")).normal())


@dataclass
class Service:
    """Scores with known trends: gold changes by the `gold_slope` of the query type at each step."""

    gold_slope: dict[str, float] = field(default_factory=lambda: {"open_ended": 0.04, "closed_ended": 0.02})
    notices: tuple[str, ...] = (DEMO_NOTICE, SHARED_NOTICE)
    n_requests: int = 0

    def score(self, items: Sequence[Item], **options: Any) -> ScoreReply:
        self.n_requests += 1
        results = [self._result(item, options["step"], gold=options["gold"]) for item in items]
        return ScoreReply(
            rewards=[result.reward for result in results],
            results=results,
            recipe=RecipeName(name=options["recipe"], hash="c0ffee99"),
            models=ModelNames(
                relevance="all-MiniLM-L6-v2",
                relevance_revision="aaaa",
                gold="demo-gold" if options["gold"] else None,
                gold_revision="bbbb" if options["gold"] else None,
            ),
            timing_ms=TimingMs(queue=0, encode=1, gold=None, total=1),
            notices=list(self.notices) if options["gold"] else [],
        )

    def _result(self, item: Item, step: int, *, gold: bool) -> ItemResult:
        length = len(item.response.split()) / 100
        open_ended = item.query_type == "open_ended"
        relevance = max(0.05, 0.45 + 0.01 * step + 0.12 * unit_noise(item.id))
        repetition = min(1.0, 0.97 - 0.004 * step + 0.02 * unit_noise(item.id, step, "rp"))
        slope = self.gold_slope[str(item.query_type)]
        gold_reward = -0.8 + 0.9 * unit_noise(item.id) + slope * step + 0.25 * unit_noise(item.id, step)
        factors = (
            {"length_incentive": length, "repetition_penalty": repetition, "query_relevance": relevance}
            if open_ended
            else {"max_length_incentive": 1.28, "reference_relevance": relevance, "repetition_penalty": repetition}
        )
        baseline = dict.fromkeys(factors, 1.0)
        return ItemResult(
            reward=math.prod(factors.values()),
            attribution=Attribution(baseline_reward=1.0, factors=factors, baseline=baseline, parts={}),
            gold_reward=gold_reward if gold else None,
            query_type=item.query_type,
            query_type_source="given",
            features={
                "length_incentive": length,
                "repetition_penalty": repetition,
                "query_relevance": relevance if open_ended else None,
                "reference_relevance": None if open_ended else relevance,
            },
            id=item.id,
        )


@dataclass
class ScriptedSampler:
    """A sampler without a model: the length of the responses grows with the step."""

    settings: SamplingSettings
    text: Callable[[Prompt, int], str] | None = None
    sampled: list[int] = field(default_factory=list)
    """Steps that were sampled."""
    fail_at: int | None = None
    """Step at which the evaluation is interrupted."""

    def respond(self, step: int, prompts: Sequence[Prompt], progress: Callable[[int, int], None]) -> list[Sample]:
        if step == self.fail_at:
            raise KeyboardInterrupt
        self.sampled.append(step)
        samples = [self._sample(p, sample, step) for sample in range(self.settings.samples) for p in prompts]
        progress(len(samples), len(samples))
        return samples

    def _sample(self, prompt: Prompt, sample: int, step: int) -> Sample:
        words = max(4, round(26 + 3.5 * step + 12 * unit_noise(prompt.id, step, sample)))
        response = self.text(prompt, step) if self.text else _prose(prompt.id, words)
        n_tokens = min(128, round(1.3 * words))
        kl = 0.0 if step == 0 else max(0.1, 0.35 * step**1.3 + 0.4 * unit_noise(prompt.id, "kl", step))
        return Sample(
            prompt=prompt,
            sample=sample,
            seed=batch_seed(self.settings.seed, sample, 0),
            response=response,
            n_tokens=n_tokens,
            truncated=n_tokens == 128,
            divergence=Divergence(kl, kl + unit_noise(prompt.id, "k1")) if self.settings.kl else None,
        )


def _prose(key: str, n_words: int) -> str:
    begin = int(hashlib.sha256(key.encode()).hexdigest(), 16) % len(_SENTENCES)
    words = " ".join(_SENTENCES[(begin + i) % len(_SENTENCES)] for i in range(n_words)).split()
    return " ".join(words[:n_words])


def sampling_settings(**changes: Any) -> SamplingSettings:
    return SamplingSettings(
        **{
            "samples": 1,
            "temperature": 0.7,
            "max_new_tokens": 128,
            "seed": 42,
            "batch_size": 32,
            "system_prompt": None,
            "apply_chat_template": True,
            "kl": True,
            **changes,
        }
    )


def make_run(path: Path, *, steps: Sequence[int] = (0, 2, 4, 6, 8, 10, 12), n_prompts: int = 64) -> Path:
    """Write a run directory with checkpoints of a single weight."""
    prompts = load_embedded("heldout")[:n_prompts]
    (path / "data").mkdir(parents=True)
    (path / "data" / "heldout.jsonl").write_text("".join(p.model_dump_json() + "\n" for p in prompts))
    (path / "config.json").write_text(json.dumps(config(path), indent=2))
    for step in steps:
        make_checkpoint(path / "checkpoints" / f"{step:06d}", step)
    rows = [metrics_row(step) for step in range(1, max(steps) + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(path: Path) -> dict[str, Any]:
    return {
        "reward_url": "http://127.0.0.1:8000",
        "run_dir": path.name,
        "policy": "smollm2-135m-instruct",
        "preset": "demo",
        "estimator": "group_norm",
        "recipe": "rer",
        "recipe_overrides": {"max_response_tokens": "128"},
        "max_new_tokens": 128,
        "seed": 42,
        "system_prompt": None,
        "apply_chat_template": True,
        "rollout_engine": "rollout engine: transformers (CPU), not vLLM",
        "command": ["python", "-m", "openrlhf.cli.train_ppo_ray", "--train.seed", "42"],
        "versions": {"openrlhf": "0.11.2", "torch": "2.13.0"},
    }


def metrics_row(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "reward": 0.31 + 0.02 * step + 0.03 * unit_noise(step),
        "response_length": 40 + 4 * step + 5 * unit_noise(step, "l"),
        "truncated": min(1.0, 0.03 * step),
        "time_s": 60.0 * step,
    }


def make_checkpoint(path: Path, step: int) -> None:
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"model_type": "llama"}')
    save_file({"weight": torch.tensor([float(step)])}, path / "model.safetensors")


def make_evaluation_run(run: Path, *, log: list[str] | None = None, **changes: Any) -> EvaluationRun:
    """An evaluation of the run at `run`; `changes` replace sampling settings."""
    source = from_run(run)
    details = info()
    return EvaluationRun(
        source=source,
        steps=source.steps,
        sampling=sampling_settings(**changes),
        info=details,
        recipe=details.recipes[0],
        gold=True,
        log=(log if log is not None else []).append,
    )


def evaluated(run: Path, service: Service | None = None, **changes: Any) -> Evaluation:
    """Evaluate the run at `run` with scripted responses."""
    return make_evaluation_run(run, **changes).run(
        lambda: ScriptedSampler(sampling_settings(**changes)), service or Service()
    )


def evaluated_response(
    prompt_id: str, factors: dict[str, float], *, gold: float | None = 0.0, **changes: Any
) -> EvaluatedResponse:
    """A response to an open-ended prompt, whose proxy reward is the product of `factors`."""
    values = {
        "prompt_id": prompt_id,
        "sample": 0,
        "seed": 1,
        "query_type": "open_ended",
        "prompt": "Why?",
        "reference": None,
        "response": "Because of the rain.",
        "n_tokens": 5,
        "truncated": False,
        "proxy_reward": math.prod(factors.values()),
        "gold_reward": gold,
        "features": {},
        "factors": factors,
        "flags": [],
    }
    return EvaluatedResponse.model_validate({**values, **changes})


def figures(*checkpoints: Sequence[EvaluatedResponse]) -> RunFigures:
    """The figures of a run whose checkpoints gave these responses."""
    return summarise(
        [
            CheckpointResponses(step=i, weights_sha256="", responses=list(rows))
            for i, rows in enumerate(checkpoints)
        ]
    )
