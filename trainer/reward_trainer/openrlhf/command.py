"""From settings to OpenRLHF's command line: pure, and the same for a CPU, a GPU and several.

    Config + LaunchInputs ──▶ ["--actor.model_name_or_path", …]     full flag names: OpenRLHF accepts abbreviations

Only facts about the machine make a difference between a laptop and a server. Written for openrlhf 0.11.2.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reward_client.wire import RecipeInfo
from reward_runs.layout import RunDir
from reward_trainer.config import Config

__all__ = [
    "DEFAULT_CLIP",
    "Hardware",
    "LaunchInputs",
    "build_command",
    "clip_range",
    "recipe_overrides",
    "reward_endpoint",
]

DEFAULT_CLIP = (-10.0, 10.0)
"""OpenRLHF's own `--reward.clip_range`; it clips without a word."""

UNCLIPPED = (-1e6, 1e6)
"""Wider than any reward: the clip has no switch."""

_RESPONSE_LIMIT = "max_response_tokens"

Flags = dict[str, str | int | float | Sequence[object] | None]
"""Flag name to value; None is a switch."""


@dataclass(frozen=True)
class Hardware:
    """What the machine has."""

    n_gpus: int
    n_threads: int
    """Physical cores, for torch on a CPU."""
    n_unused: int = 0
    """GPUs that are there, but lack vLLM or flash attention in this environment."""

    @property
    def has_gpu(self) -> bool:
        """Whether vLLM and CUDA kernels can run."""
        return self.n_gpus > 0

    @property
    def n_ranks(self) -> int:
        """Training ranks; as many rollout engines share their devices."""
        return max(self.n_gpus, 1)


@dataclass(frozen=True)
class LaunchInputs:
    """What must be known, besides the settings, to write the command."""

    hardware: Hardware
    policy: str
    """Folder or Hugging Face id that Transformers can load."""
    has_chat_template: bool
    max_prompt_tokens: int
    """Of the longest prompt in the training data."""
    endpoint: str
    """URL that OpenRLHF posts to."""
    clip: tuple[float, float]
    run: RunDir


def recipe_overrides(config: Config, recipe: RecipeInfo) -> dict[str, object]:
    """Return the overrides that every reward of the run is computed with.

    The recipe's idea of the longest response follows the run's own limit, so that closed-ended prompts do not
    outweigh open-ended ones; recipes without that parameter are left alone.
    """
    if _RESPONSE_LIMIT not in recipe.parameters:
        return dict(config.recipe_overrides)
    return {_RESPONSE_LIMIT: config.max_new_tokens, **config.recipe_overrides}


def reward_endpoint(config: Config, run: RunDir, overrides: Mapping[str, object]) -> str:
    """Return the URL that OpenRLHF posts its rollouts to; it carries overrides as JSON, text as it is."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in overrides.items()}
    query = {"recipe": config.recipe, **texts}
    if config.gold:
        query["gold"] = "true"
    return f"{config.reward_url.rstrip('/')}/r/{run.name}/get_reward?{urllib.parse.urlencode(query)}"


def clip_range(recipe: RecipeInfo, overrides: Mapping[str, object]) -> tuple[float, float]:
    """Return a clip that no reward of the recipe reaches.

    `reward_range` is that of the recipe's own parameters, and grows in proportion to the longest response. What
    other overrides do to it is not known here, so with them nothing is clipped.
    """
    if set(overrides) - {_RESPONSE_LIMIT}:
        return UNCLIPPED
    low, high = DEFAULT_CLIP
    scale = 1.0
    if _RESPONSE_LIMIT in overrides and _RESPONSE_LIMIT in recipe.parameters:
        scale = max(1.0, float(str(overrides[_RESPONSE_LIMIT])) / float(recipe.parameters[_RESPONSE_LIMIT]))
    return min(low, recipe.reward_range[0] * scale), max(high, recipe.reward_range[1] * scale)


def build_command(config: Config, facts: LaunchInputs, *, resume: bool = False) -> list[str]:
    """Return the arguments of `python -m openrlhf.cli.train_ppo_ray`."""
    flags: Flags = {
        "--actor.model_name_or_path": facts.policy,
        **_devices(facts.hardware),
        **_data(config, facts),
        **_rollouts(config),
        **_reward(facts),
        **_algorithm(config),
        **_optimizer(config),
        **_records(config, facts.run, resume),
    }
    return [*_arguments(flags), *config.raw_flags]


def _arguments(flags: Flags) -> list[str]:
    arguments = []
    for name, value in flags.items():
        values = [] if value is None else [value] if isinstance(value, str | int | float) else list(value)
        arguments += [name, *(_text(part) for part in values)]
    return arguments


def _text(value: object) -> str:
    return format(value, ".12g") if isinstance(value, float) else str(value)


def _devices(hardware: Hardware) -> Flags:
    """All models and engines share each device: nobody trains while somebody generates."""
    flags: Flags = {"--train.colocate_all": None}
    for model in ("actor", "ref", "critic"):
        flags |= {f"--{model}.num_nodes": 1, f"--{model}.num_gpus_per_node": hardware.n_ranks}
    flags |= {"--vllm.num_engines": hardware.n_ranks, "--vllm.tensor_parallel_size": 1}
    return flags | (_on_gpu() if hardware.has_gpu else _on_cpu(hardware))


def _on_gpu() -> Flags:
    return {
        "--ds.zero_stage": 2,
        "--ds.param_dtype": "bf16",
        "--ds.attn_implementation": "flash_attention_2",
        "--ds.packing_samples": None,
        "--ds.enable_sleep": None,
        "--actor.gradient_checkpointing_enable": None,
        "--vllm.enable_sleep": None,
        "--vllm.gpu_memory_utilization": 0.5,
    }


def _on_cpu(hardware: Hardware) -> Flags:
    # One rank has nothing to shard: stage 0 spares the copies that sharding needs.
    return {
        "--ds.zero_stage": 0 if hardware.n_ranks == 1 else 2,
        "--ds.param_dtype": "fp32",
        "--ds.attn_implementation": "sdpa",
    }


def _data(config: Config, facts: LaunchInputs) -> Flags:
    flags: Flags = {
        "--data.prompt_dataset": str(facts.run.train_data),
        "--data.input_key": "input",
        "--data.label_key": "label",
        "--data.max_len": facts.max_prompt_tokens + config.max_new_tokens,
    }
    return flags | ({"--data.apply_chat_template": None} if facts.has_chat_template else {})


def _rollouts(config: Config) -> Flags:
    return {
        "--rollout.batch_size": config.prompts_per_step,
        "--rollout.n_samples_per_prompt": config.samples_per_prompt,
        "--rollout.micro_batch_size": config.micro_batch_size,
        "--rollout.max_new_tokens": config.max_new_tokens,
        "--rollout.temperature": config.temperature,
        "--rollout.top_p": config.top_p,
        "--train.batch_size": config.effective_train_batch_size,
        "--train.micro_batch_size": config.micro_batch_size,
        "--train.max_epochs": config.epochs_per_batch,
        "--train.num_episodes": 1,
        "--train.seed": config.seed,
    }


def _reward(facts: LaunchInputs) -> Flags:
    return {"--reward.remote_url": facts.endpoint, "--reward.clip_range": facts.clip}


def _algorithm(config: Config) -> Flags:
    flags: Flags = {
        "--algo.advantage.estimator": config.estimator,
        "--algo.advantage.gamma": config.advantage_gamma,
        "--algo.advantage.lambd": config.advantage_lambda,
        "--algo.kl.init_coef": config.kl_coefficient,
        "--actor.eps_clip": config.clip,
        "--critic.value_clip": config.value_clip,
    }
    if config.kl_target is not None:
        flags |= {"--algo.kl.target": config.kl_target, "--algo.kl.horizon": config.kl_horizon}
    return flags


def _optimizer(config: Config) -> Flags:
    # A warm-up on a short run would leave its first step at a learning rate of 0.
    flags: Flags = {"--actor.adam.lr": config.learning_rate}
    for model in ("actor", "critic"):
        flags |= {f"--{model}.lr_scheduler": "constant", f"--{model}.lr_warmup_ratio": 0.0}
    return flags


def _records(config: Config, run: RunDir, resume: bool) -> Flags:
    flags: Flags = {
        "--ckpt.path": str(run.state),
        "--ckpt.output_dir": str(run.final),
        "--ckpt.save_steps": config.save_every,
        "--ckpt.save_hf": None,
        "--ckpt.max_num": 2,  # the older one is deleted before a third is begun, so one is whole at any time
        "--logger.logging_steps": 1,
        "--logger.tensorboard_dir": config.tensorboard_dir or str(run.tensorboard),
        "--logger.wandb.run_name": run.name,
    }
    if config.wandb_project is not None:
        # OpenRLHF only logs when there is a key; wandb itself takes the real one from WANDB_API_KEY or its netrc.
        flags |= {"--logger.wandb.project": config.wandb_project, "--logger.wandb.key": "from-environment"}
    return flags | ({"--ckpt.load_enable": None} if resume else {})
