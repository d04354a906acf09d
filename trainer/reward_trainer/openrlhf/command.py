"""Settings → OpenRLHF's command line. Pure, and the same for a CPU, one GPU, several GPUs and several nodes.

    Config + LaunchInputs ──▶ ["--actor.model_name_or_path", …]     full flag names: OpenRLHF accepts abbreviations

Only `LaunchInputs.hardware` distinguishes a laptop from a server. Written for openrlhf 0.11.2.
"""

import json
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reward_client.wire import RecipeInfo
from reward_runs.layout import RunDir
from reward_trainer.config import Config
from reward_trainer.hardware import Hardware
from reward_trainer.layout import Layout

DEFAULT_CLIP = (-10.0, 10.0)
"""OpenRLHF's default `--reward.clip_range`; it clips silently."""

UNCLIPPED = (-1e6, 1e6)
"""Wider than any reward: OpenRLHF cannot disable clipping."""

_RESPONSE_LIMIT = "max_response_tokens"

Flags = dict[str, str | int | float | Sequence[object] | None]
"""Flag name → value; None for a flag without a value."""


@dataclass(frozen=True)
class LaunchInputs:
    """Inputs of the command besides the settings."""

    hardware: Hardware
    policy: str
    """Folder or Hugging Face id that Transformers can load."""
    has_chat_template: bool
    max_prompt_tokens: int
    """Length of the longest training prompt."""
    endpoint: str
    """URLs that OpenRLHF posts to in turn, separated by commas, as its parser expects."""
    clip: tuple[float, float]
    run: RunDir


def recipe_overrides(config: Config, recipe: RecipeInfo) -> dict[str, object]:
    """Return the recipe overrides of every reward request of the run.

    The recipe's maximum response length is set to the run's limit, so that closed-ended prompts do not outweigh
    open-ended ones. Recipes without that parameter are not changed.
    """
    if _RESPONSE_LIMIT not in recipe.parameters:
        return dict(config.recipe_overrides)
    return {_RESPONSE_LIMIT: config.max_new_tokens, **config.recipe_overrides}


def reward_endpoint(config: Config, run: RunDir, overrides: Mapping[str, object]) -> str:
    """Return the URLs that OpenRLHF posts its rollouts to; overrides are JSON, except text."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in overrides.items()}
    query = {"recipe": config.recipe, **texts}
    if config.gold:
        query["gold"] = "true"
    route = f"/r/{run.name}/get_reward?{urllib.parse.urlencode(query)}"
    return ",".join(f"{url}{route}" for url in config.reward_urls)


def clip_range(recipe: RecipeInfo, overrides: Mapping[str, object]) -> tuple[float, float]:
    """Return a clip range that contains every reward of the recipe.

    `reward_range` applies to the recipe's parameters without overrides, and is proportional to the longest
    response unless factors are raised to a power. The effect of other overrides on it is unknown, so nothing is
    clipped with them.
    """
    if set(overrides) - {_RESPONSE_LIMIT}:
        return UNCLIPPED
    low, high = DEFAULT_CLIP
    scale = 1.0
    if _RESPONSE_LIMIT in overrides and _RESPONSE_LIMIT in recipe.parameters:
        scale = max(1.0, float(str(overrides[_RESPONSE_LIMIT])) / float(recipe.parameters[_RESPONSE_LIMIT]))
    if scale > 1 and any("^" in formula for formula in recipe.formula.values()):
        return UNCLIPPED
    return min(low, recipe.reward_range[0] * scale), max(high, recipe.reward_range[1] * scale)


def build_command(config: Config, inputs: LaunchInputs, *, resume: bool = False) -> list[str]:
    """Return the arguments of `python -m openrlhf.cli.train_ppo_ray`."""
    flags: Flags = {
        "--actor.model_name_or_path": inputs.policy,
        "--reward.remote_url": inputs.endpoint,
        "--reward.clip_range": inputs.clip,
        **_devices(Layout.of(config, inputs.hardware), has_gpu=inputs.hardware.has_gpu),
        **_rollouts(config, inputs),
        **_algorithm(config),
        **_logging(config, inputs.run, resume),
    }
    arguments = []
    for name, value in flags.items():
        values = [] if value is None else [value] if isinstance(value, str | int | float) else list(value)
        arguments += [name, *(_text(part) for part in values)]
    return [*arguments, *config.raw_flags]


def _text(value: object) -> str:
    return format(value, ".12g") if isinstance(value, float) else str(value)


def _devices(layout: Layout, *, has_gpu: bool) -> Flags:
    """All models share each training device; the engines do too, unless the run is asynchronous."""
    flags: Flags = {"--train.colocate_all": None}
    for model in ("actor", "ref", "critic"):
        flags |= {f"--{model}.num_nodes": layout.n_nodes, f"--{model}.num_gpus_per_node": layout.ranks_per_node}
    flags |= {"--vllm.num_engines": layout.n_engines, "--vllm.tensor_parallel_size": 1}
    if not layout.shared_devices:
        flags |= {"--train.async_enable": None}
    if not has_gpu:
        return flags | {
            "--ds.zero_stage": 0 if layout.n_ranks == 1 else 2,  # a single rank has nothing to shard
            "--ds.param_dtype": "fp32",
            "--ds.attn_implementation": "sdpa",
        }
    if layout.shared_devices:
        flags |= {"--vllm.enable_sleep": None, "--vllm.gpu_memory_utilization": 0.5}
    return flags | {
        "--ds.zero_stage": 2,
        "--ds.param_dtype": "bf16",
        "--ds.attn_implementation": "flash_attention_2",
        "--ds.packing_samples": None,
        "--ds.enable_sleep": None,
        "--actor.gradient_checkpointing_enable": None,
    }


def _rollouts(config: Config, inputs: LaunchInputs) -> Flags:
    flags: Flags = {
        "--data.prompt_dataset": str(inputs.run.train_data),
        "--data.input_key": "input",
        "--data.label_key": "label",
        "--data.max_len": inputs.max_prompt_tokens + config.max_new_tokens,
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
    return flags | ({"--data.apply_chat_template": None} if inputs.has_chat_template else {})


def _algorithm(config: Config) -> Flags:
    flags: Flags = {
        "--algo.advantage.estimator": config.estimator,
        "--algo.advantage.gamma": config.advantage_gamma,
        "--algo.advantage.lambd": config.advantage_lambda,
        "--algo.kl.init_coef": config.kl_coefficient,
        "--actor.eps_clip": config.clip,
        "--critic.value_clip": config.value_clip,
        "--actor.adam.lr": config.learning_rate,
    }
    for model in ("actor", "critic"):
        # With a warm-up, the first step of a short run would have a learning rate of 0.
        flags |= {f"--{model}.lr_scheduler": "constant", f"--{model}.lr_warmup_ratio": 0.0}
    if config.kl_target is not None:
        flags |= {"--algo.kl.target": config.kl_target, "--algo.kl.horizon": config.kl_horizon}
    return flags


def _logging(config: Config, run: RunDir, resume: bool) -> Flags:
    flags: Flags = {
        "--ckpt.path": str(run.state),
        "--ckpt.output_dir": str(run.final),
        "--ckpt.save_steps": config.save_every,
        "--ckpt.save_hf": None,
        "--ckpt.max_num": 2,  # the older one is deleted before a third is written, so one is always complete
        "--logger.logging_steps": 1,
        "--logger.tensorboard_dir": config.tensorboard_dir or str(run.tensorboard),
        "--logger.wandb.run_name": run.name,
    }
    if config.wandb_project is not None:
        # OpenRLHF logs only if a key is given; wandb reads the real one from WANDB_API_KEY or its netrc file.
        flags |= {"--logger.wandb.project": config.wandb_project, "--logger.wandb.key": "from-environment"}
    return flags | ({"--ckpt.load_enable": None} if resume else {})
