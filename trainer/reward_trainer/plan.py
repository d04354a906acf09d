"""From settings to a plan: ask the service, find the policy, read the prompts, check, write the command.

Nothing is started and nothing written here; a dry run ends with the plan.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reward_client.wire import Info
from reward_runs import checkpoints, provenance
from reward_runs import prompts as prompt_files
from reward_runs.errors import DataError, PolicyError, PreflightError
from reward_runs.layout import RunDir
from reward_runs.prompts import Columns, Prompt
from reward_trainer import preflight
from reward_trainer.config import Config
from reward_trainer.openrlhf import command
from reward_trainer.openrlhf.command import Hardware, LaunchInputs
from reward_trainer.openrlhf.cpu import ROLLOUT_ENGINE
from reward_trainer.policy import resolve_policy

__all__ = ["Plan", "prepare", "run_record"]


@dataclass(frozen=True)
class Plan:
    """All that a launch needs."""

    config: Config
    run: RunDir
    info: Info
    hardware: Hardware
    facts: LaunchInputs
    overrides: dict[str, object]
    training: list[Prompt]
    heldout: list[Prompt]
    trial_prompts: list[str]
    """One rendered prompt of each query type."""
    trial_labels: list[str]
    notes: list[str] = field(default_factory=list)
    """What the person should know, though nothing is wrong."""

    @property
    def recipe_needs_gold(self) -> bool:
        """Whether the gold model's score is part of the reward."""
        return preflight.find_recipe(self.config.recipe, self.info).needs_gold

    @property
    def rollout_engine(self) -> str:
        """What generates the rollouts; stands in every report."""
        return "rollout engine: vLLM" if self.hardware.has_gpu else ROLLOUT_ENGINE

    def command(self, *, resume: bool = False) -> list[str]:
        """Return OpenRLHF's arguments."""
        return command.build_command(self.config, self.facts, resume=resume)


def prepare(config: Config, info: Info, hardware: Hardware) -> Plan:
    """Return the plan, or raise the TrainerError that says what is wrong."""
    run = RunDir.at(config.run_dir)
    recipe = preflight.find_recipe(config.recipe, info)
    overrides = command.recipe_overrides(config, recipe)
    training, heldout = _prompts(config)
    policy = resolve_policy(config.policy)
    tokenizer = _tokenizer(policy)
    rendered = _render(training, config, tokenizer)
    facts = LaunchInputs(
        hardware=hardware,
        policy=policy,
        has_chat_template=bool(tokenizer.chat_template),
        max_prompt_tokens=_longest(training, rendered, tokenizer, config.max_prompt_tokens),
        endpoint=command.reward_endpoint(config, run, overrides),
        clip=command.clip_range(recipe, overrides),
        run=run,
    )
    notes = _check_room(config, info, hardware, run, policy)
    trial = _one_of_each_type(training)
    return Plan(
        config=config,
        run=run,
        info=info,
        hardware=hardware,
        facts=facts,
        overrides=overrides,
        training=training,
        heldout=heldout,
        trial_prompts=[rendered[index] for index in trial],
        trial_labels=[prompt_files.label(training[index]) for index in trial],
        notes=notes,
    )


def _prompts(config: Config) -> tuple[list[Prompt], list[Prompt]]:
    columns = Columns(config.prompt_column, config.reference_column, config.query_type_column)
    training = prompt_files.load_prompts(config.prompts, columns)
    if config.heldout is not None:
        heldout = prompt_files.load_prompts(config.heldout, columns, embedded="heldout")
    elif config.prompts == prompt_files.EMBEDDED_PROMPTS:
        heldout = prompt_files.load_prompts(config.prompts, columns, embedded="heldout")
    else:
        return prompt_files.hold_out(training, config.n_heldout, config.seed)
    prompt_files.check_overlap(training, heldout)
    return training, heldout


def _tokenizer(policy: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(policy)
    except (OSError, ValueError) as exc:
        raise PolicyError(f"cannot load the tokenizer of {policy}: {exc}") from exc


def _render(prompts: Sequence[Prompt], config: Config, tokenizer: Any) -> list[str]:
    """Return each prompt as OpenRLHF will give it to the policy."""
    chat = bool(tokenizer.chat_template)
    rows = [prompt_files.training_row(prompt, config.system_prompt, chat=chat)["input"] for prompt in prompts]
    if not chat:
        return rows
    return [tokenizer.apply_chat_template(row, tokenize=False, add_generation_prompt=True) for row in rows]


def _longest(prompts: Sequence[Prompt], rendered: Sequence[str], tokenizer: Any, limit: int) -> int:
    lengths = [len(ids) for ids in tokenizer(list(rendered), add_special_tokens=False)["input_ids"]]
    too_long = [(prompt.id, n) for prompt, n in zip(prompts, lengths, strict=True) if n > limit]
    if too_long:
        first = ", ".join(f"{name!r} has {n}" for name, n in too_long[:5])
        raise DataError(
            f"{len(too_long)} prompts exceed {limit} tokens, and OpenRLHF would cut their beginning: {first}. "
            "Remove them, or raise --max-prompt-tokens."
        )
    return max(lengths)


def _one_of_each_type(prompts: Sequence[Prompt]) -> list[int]:
    first: dict[str, int] = {}
    for index, prompt in enumerate(prompts):
        first.setdefault(prompt.query_type, index)
    return list(first.values())


def _check_room(config: Config, info: Info, hardware: Hardware, run: RunDir, policy: str) -> list[str]:
    n_parameters = checkpoints.n_parameters(Path(policy)) if Path(policy).is_dir() else 0
    room = preflight.room_for(config, n_parameters, run, bytes_per_weight=2 if hardware.has_gpu else 4)
    if found := preflight.problems(config, info, room, hardware):
        raise PreflightError("\n".join(found))
    notes = []
    if hardware.n_unused:
        notes.append(
            f"{hardware.n_unused} GPUs stay unused, because {' and '.join(preflight.missing_for_gpus())} are not "
            "installed here: docs/training.md says how; until then this run trains on the CPU"
        )
    if not n_parameters:
        notes.append(f"{policy} is not on this disk yet, so the room for checkpoints was not checked")
    if room.shared_memory_free < 1e9:
        notes.append(
            f"only {room.shared_memory_free / 1e6:.0f} MB of shared memory: Ray will use the disk instead; "
            "a container gets more with --shm-size=2g"
        )
    return notes


def run_record(plan: Plan) -> str:
    """Return `config.json`: the settings, and what the run runs with."""
    recipe = preflight.find_recipe(plan.config.recipe, plan.info)
    record = {
        **plan.config.model_dump(mode="json"),
        "recipe_overrides": plan.overrides,
        "recipe_hash": recipe.hash,
        "recipe_parameters": recipe.parameters,
        "apply_chat_template": plan.facts.has_chat_template,
        "rollout_engine": plan.rollout_engine,
        "command": ["python", "-m", "openrlhf.cli.train_ppo_ray", *plan.command()],
        "service": plan.info.model_dump(mode="json"),
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "hardware": {"n_gpus": plan.hardware.n_gpus, "n_threads": plan.hardware.n_threads},
        "n_training_prompts": len(plan.training),
        "n_heldout_prompts": len(plan.heldout),
    }
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"
