"""`glassbox train --dry-run`: what a run would do, as text, after every check of a real start.

Plan ──▶ run, policy, prompts, rollouts, recipe, models, devices, disk, time, OpenRLHF's command
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from reward_client.info import find_recipe
from reward_client.wire import ModelInfo
from reward_runs.files import size
from reward_runs.layout import RunDir
from reward_runs.prompts import Prompt
from reward_trainer.config import Config
from reward_trainer.openrlhf.process import MODULE
from reward_trainer.plan import Plan
from reward_trainer.time_estimate import estimate_time

_WIDTH = 10
"""Characters of the column with the names."""


def summary(plan: Plan, preset: str | None, done: int | None = None) -> str:
    """Return the summary of the run, a fact on each line.

    `preset` is None for a run that is resumed, `done` the step after which that continues.
    """
    lines = []
    previous = None
    for name, value in _facts(plan, preset, done or 0):
        lines.append(f"{'' if name == previous else name:<{_WIDTH}}  {value}".rstrip())
        previous = name
    return "\n".join(lines)


def finished(config: Config) -> str:
    """Return what to do with a run that is to be resumed, and has done all its steps."""
    run = RunDir(config.run_dir)
    evaluate = f"glassbox evaluate --run-dir {shlex.quote(config.run_dir)}"
    policy = f"--policy {shlex.quote(str(run.checkpoint(config.steps)))}"
    same = "" if config.evaluate == "never" else ", or this command without --dry-run"
    return (
        f"{run.path} is finished: all {config.steps} steps are done, so nothing is left to train.\n"
        f"evaluate it: {evaluate}{same}\n"
        f"train its policy further, as a new run: glassbox train {policy} …"
    )


def openrlhf_command(plan: Plan, *, resume: bool = False) -> str:
    """Return OpenRLHF's command, as it can be pasted into a shell."""
    return shlex.join(["python", "-m", MODULE, *plan.command(resume=resume)])


def _facts(plan: Plan, preset: str | None, done: int) -> Iterator[tuple[str, str]]:
    """(name, value) of each line; several lines of one fact follow each other."""
    config = plan.config
    origin = "resumed" if preset is None else f"preset {preset}"
    smoke_test = ": a smoke test, which teaches nothing" if preset == "tiny" else ""
    yield "run", f"{plan.run.path}, {origin}{smoke_test}"
    size = f", {plan.n_weights / 1e6:,.0f} million weights" if plan.n_weights else ", not on this disk yet"
    yield "policy", config.policy + size
    yield (
        "prompts",
        f"{config.prompts}: {_types(plan.training)} for training, of which the run draws {_drawn(plan)}",
    )
    yield "prompts", f"{_types(plan.heldout)} held out for the evaluation"
    yield (
        "steps",
        f"{config.steps}{f', of which {done} are done' if done else ''}, each with {config.rollouts_per_step} "
        f"responses ({config.prompts_per_step} prompts × "
        f"{config.samples_per_prompt}) of at most {config.max_new_tokens} tokens; saved every {config.save_every}",
    )
    yield (
        "algorithm",
        f"{config.estimator}, learning rate {config.learning_rate:g}, KL coefficient {config.kl_coefficient:g}",
    )
    yield from _reward(plan)
    yield "devices", f"{plan.rollout_engine}; {plan.hardware.n_gpus} GPUs, {plan.hardware.n_threads} CPU threads"
    yield "disk", _disk(plan)
    estimate = estimate_time(config, plan.hardware, plan.n_weights, plan.run)
    yield "time", f"{estimate.describe(config.steps - done)}; without start and evaluation"
    for note in plan.notes:
        yield "note", note


def _reward(plan: Plan) -> Iterator[tuple[str, str]]:
    config, recipe = plan.config, find_recipe(plan.info, plan.config.recipe)
    overrides = ", ".join(f"{name} {value}" for name, value in plan.overrides.items())
    yield "recipe", f"{recipe.name}, hash {recipe.hash}" + (f"; overridden: {overrides}" if overrides else "")
    for query_type, formula in recipe.formula.items():
        yield "recipe", f"{query_type}: {formula}"
    yield "encoder", _model(plan.info.relevance)
    use = "logged at each step, and in the evaluation" if config.gold else "in the evaluation only"
    none = "none: the evaluation will not show whether the reward is hacked (glassbox serve --gold demo-gold)"
    yield "gold", f"{_model(plan.info.gold)}, {use}" if plan.info.gold else none
    yield "trial", f"a reward received for each of {len(plan.trial_prompts)} query types, from {config.reward_url}"


def _model(model: ModelInfo | None) -> str:
    if model is None:
        return "none"
    backend = f", {model.backend}" if model.backend else ""
    return f"{model.id} on {model.device}{backend}"


def _types(prompts: Sequence[Prompt]) -> str:
    counts = Counter(prompt.query_type.value for prompt in prompts)
    return f"{len(prompts)} ({', '.join(f'{n} {name}' for name, n in sorted(counts.items()))})"


def _drawn(plan: Plan) -> str:
    n_drawn, n_prompts = plan.config.steps * plan.config.prompts_per_step, len(plan.training)
    if n_drawn <= n_prompts:
        return f"{n_drawn}, each once"
    fewest, more = divmod(n_drawn, n_prompts)
    times = f"{fewest} to {fewest + 1}" if more else f"{fewest}"
    return f"all, each {times} times"


def _disk(plan: Plan) -> str:
    free = f"{size(plan.disk.disk_free)} are free"
    if not plan.n_weights:
        return f"unknown until the policy is downloaded; {free}"
    return f"about {size(plan.disk.disk_needed)} for checkpoints and optimizer states; {free}"
