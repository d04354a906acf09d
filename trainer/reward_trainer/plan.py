"""Settings → plan: load policy and prompts, check everything, build OpenRLHF's command.

Nothing is started and nothing is written here; a dry run ends with the plan.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reward_client.info import find_recipe
from reward_client.wire import Info
from reward_evidence.sampling.policy_folder import resolve_policy
from reward_runs import provenance
from reward_runs.checkpoints import n_parameters
from reward_runs.errors import DataError, PolicyError, PreflightError
from reward_runs.layout import RunDir
from reward_runs.prompts import EMBEDDED_PROMPTS, Columns, Prompt, load_prompts, model_input
from reward_runs.record import RunRecord
from reward_trainer import training_data
from reward_trainer.config import Config
from reward_trainer.hardware import DiskBudget, Hardware, estimate_disk, missing_gpu_packages
from reward_trainer.openrlhf import command, flag_check, installed
from reward_trainer.openrlhf.command import LaunchInputs
from reward_trainer.openrlhf.environment import ROLLOUT_ENGINE
from reward_trainer.openrlhf.process import MODULE
from reward_trainer.preflight import find_problems

_MIN_SHARED_MEMORY = 1e9
"""Bytes that Ray's object store should have."""


@dataclass(frozen=True)
class Plan:
    """Everything that a launch needs."""

    config: Config
    run: RunDir
    info: Info
    launch: LaunchInputs
    overrides: dict[str, object]
    """Recipe overrides of every reward request."""
    training: list[Prompt]
    heldout: list[Prompt]
    trial_prompts: list[str]
    """One rendered prompt of each query type."""
    trial_labels: list[str]
    n_weights: int
    """Weights of the policy; 0 while it is not on this disk."""
    disk: DiskBudget
    notes: list[str] = field(default_factory=list)
    """Information for the user that does not prevent the run."""

    @property
    def hardware(self) -> Hardware:
        """Devices of the run."""
        return self.launch.hardware

    @property
    def recipe_needs_gold(self) -> bool:
        """Whether the reward includes the gold model's score."""
        return find_recipe(self.info, self.config.recipe).needs_gold

    @property
    def rollout_engine(self) -> str:
        """What generates the rollouts; part of every report."""
        return "rollout engine: vLLM" if self.hardware.has_gpu else ROLLOUT_ENGINE

    def command(self, *, resume: bool = False) -> list[str]:
        """Return OpenRLHF's arguments."""
        return command.build_command(self.config, self.launch, resume=resume)


def prepare(config: Config, info: Info, hardware: Hardware) -> Plan:
    """Return the plan; raise RunError when a check fails."""
    run = RunDir(config.run_dir)
    recipe = find_recipe(info, config.recipe)
    overrides = command.recipe_overrides(config, recipe)
    training, heldout = _prompts(config)
    policy = resolve_policy(config.policy)
    tokenizer = _tokenizer(policy)
    rendered = _render(training, config, tokenizer)
    launch = LaunchInputs(
        hardware=hardware,
        policy=policy,
        has_chat_template=bool(tokenizer.chat_template),
        max_prompt_tokens=_longest_prompt(training, rendered, tokenizer, config.max_prompt_tokens),
        endpoint=command.reward_endpoint(config, run, overrides),
        clip=command.clip_range(recipe, overrides),
        run=run,
    )
    n_weights = n_parameters(Path(policy)) if Path(policy).is_dir() else 0
    disk = estimate_disk(config, n_weights, run, bytes_per_weight=2 if hardware.has_gpu else 4)
    first_of_type: dict[str, int] = {}
    for index, prompt in enumerate(training):
        first_of_type.setdefault(prompt.query_type, index)
    trial = list(first_of_type.values())
    return Plan(
        config=config,
        run=run,
        info=info,
        launch=launch,
        overrides=overrides,
        training=training,
        heldout=heldout,
        trial_prompts=[rendered[index] for index in trial],
        trial_labels=[training_data.label(training[index]) for index in trial],
        n_weights=n_weights,
        disk=disk,
        notes=_check(config, info, launch, disk, n_weights),
    )


def _prompts(config: Config) -> tuple[list[Prompt], list[Prompt]]:
    """Return (training, held-out) prompts."""
    columns = Columns(
        config.prompt_column, config.reference_column, config.query_type_column, config.query_type_default
    )
    training = load_prompts(config.prompts, columns)
    if config.heldout is None and config.prompts != EMBEDDED_PROMPTS:
        return training_data.hold_out(training, config.n_heldout, config.seed)
    source = EMBEDDED_PROMPTS if config.heldout is None else config.heldout
    heldout = load_prompts(source, columns, embedded="heldout")
    training_data.check_overlap(training, heldout)
    return training, heldout


def _tokenizer(policy: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(policy)
    except (OSError, ValueError) as exc:
        raise PolicyError(f"cannot load the tokenizer of {policy}: {exc}") from exc


def _render(prompts: Sequence[Prompt], config: Config, tokenizer: Any) -> list[str]:
    """Return each prompt as the text that the policy receives from OpenRLHF."""
    chat = bool(tokenizer.chat_template)
    inputs: list[Any] = [model_input(prompt, config.system_prompt, chat=chat) for prompt in prompts]
    if not chat:
        return inputs
    return [tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in inputs]


def _longest_prompt(prompts: Sequence[Prompt], rendered: Sequence[str], tokenizer: Any, limit: int) -> int:
    """Return the length of the longest prompt in tokens; raise DataError naming those above `limit`."""
    lengths = [len(ids) for ids in tokenizer(list(rendered), add_special_tokens=False)["input_ids"]]
    too_long = [(prompt.id, n) for prompt, n in zip(prompts, lengths, strict=True) if n > limit]
    if too_long:
        first = ", ".join(f"{name!r} has {n}" for name, n in too_long[:5])
        raise DataError(
            f"{len(too_long)} prompts exceed {limit} tokens; OpenRLHF would truncate their beginning: {first}. "
            "Remove them, or raise --max-prompt-tokens."
        )
    return max(lengths)


def _check(config: Config, info: Info, launch: LaunchInputs, budget: DiskBudget, n_weights: int) -> list[str]:
    """Raise PreflightError with every problem; return notes for the user."""
    hardware, policy = launch.hardware, launch.policy
    found = find_problems(config, info, budget, hardware, os.environ)
    arguments = command.build_command(config, launch)
    if refused := flag_check.refusal(arguments, has_gpu=hardware.has_gpu):
        found.append(f"OpenRLHF would refuse its command: {refused}")
    if found:
        raise PreflightError("\n".join(found))
    notes = installed.notes(arguments)
    if config.nodes > 1:
        notes.append(f"{launch.run.path} must be on a disk that all {config.nodes} nodes share")
    if hardware.n_unused:
        notes.append(
            f"{hardware.n_unused} GPUs are not used, because {' and '.join(missing_gpu_packages())} are not "
            "installed; docs/guide/training.md describes the installation. This run trains on the CPU"
        )
    if not n_weights:
        notes.append(f"{policy} is not on this disk yet, so the disk space for checkpoints was not checked")
    if budget.shared_memory_free < _MIN_SHARED_MEMORY:
        notes.append(
            f"only {budget.shared_memory_free / 1e6:.0f} MB of shared memory: Ray will use the disk instead; "
            "start a container with --shm-size=2g"
        )
    return notes


def run_record(plan: Plan) -> RunRecord:
    """Return the record of the run: its settings, and what it runs with."""
    recipe = find_recipe(plan.info, plan.config.recipe)
    return RunRecord.model_validate(
        {
            **plan.config.model_dump(mode="json"),
            "recipe_overrides": plan.overrides,
            "recipe_hash": recipe.hash,
            "recipe_parameters": recipe.parameters,
            "apply_chat_template": plan.launch.has_chat_template,
            "rollout_engine": plan.rollout_engine,
            "command": ["python", "-m", MODULE, *plan.command()],
            "service": plan.info.model_dump(mode="json"),
            "versions": provenance.versions(),
            "git_commit": provenance.git_commit(),
            "hardware": {"n_gpus": plan.hardware.n_gpus, "n_threads": plan.hardware.n_threads},
            "n_training_prompts": len(plan.training),
            "n_heldout_prompts": len(plan.heldout),
        }
    )
