"""Checks before the launch: what would otherwise fail ten minutes later, or never and be wrong.

    facts about machine, policy, service ──▶ problems() ──▶ sentences, which `prepare` raises together      pure

The trial reward posts a made-up response to each kind of prompt as OpenRLHF will, and throws the reward away.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import ValidationError

from reward_client import RewardClient, RewardError
from reward_client.retry import RetryPolicy
from reward_client.urls import API_KEY_VARIABLE, key_from_environment
from reward_client.wire import Info, Problem, RecipeInfo
from reward_runs.errors import PreflightError
from reward_runs.layout import RunDir
from reward_trainer.config import Config
from reward_trainer.openrlhf import api_key
from reward_trainer.openrlhf.command import Hardware

__all__ = [
    "DiskBudget",
    "find_recipe",
    "hardware",
    "missing_for_gpus",
    "problems",
    "room_for",
    "service_info",
    "trial_reward",
    "why_not_ready",
]

_GB = 1e9
_SERVICE_HELP = "Start it with `python -m reward_service`, or give its address with --reward-url."
_TRIAL_RESPONSE = "This is a trial before the training starts."


def hardware() -> Hardware:
    """Look at this machine: CUDA devices that can be used, and physical cores that this process may use."""
    import psutil
    import torch

    allowed = len(os.sched_getaffinity(0))
    physical = psutil.cpu_count(logical=False) or allowed
    n_gpus, missing = torch.cuda.device_count(), missing_for_gpus()
    n_threads = max(1, min(allowed, physical))
    if missing:
        return Hardware(n_gpus=0, n_threads=n_threads, n_unused=n_gpus)
    return Hardware(n_gpus=n_gpus, n_threads=n_threads)


def missing_for_gpus() -> list[str]:
    """What OpenRLHF needs on a GPU, and this environment lacks."""
    return [name for name in ("vllm", "flash_attn") if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class DiskBudget:
    """What a run needs and what there is, in bytes."""

    disk_needed: int
    disk_free: int
    shared_memory_free: int


def room_for(config: Config, n_parameters: int, run: RunDir, *, bytes_per_weight: int) -> DiskBudget:
    """Estimate the disk that checkpoints still take: all saved policies, and two states of Adam for resuming.

    A state is the weights, Adam's two moments and, if sharded, a copy: 16 bytes a weight at most.
    """
    n_policies = max(0, config.steps // config.save_every + 2 - len(run.saved_steps()))
    n_states = max(0, 2 - sum(1 for _ in run.state.glob("_actor/global_step*")))
    needed = n_parameters * (n_policies * bytes_per_weight + n_states * 16)
    memory = Path("/dev/shm")  # noqa: S108 - the kernel's shared memory, which Ray's object store uses
    return DiskBudget(
        disk_needed=needed,
        disk_free=shutil.disk_usage(_existing(run.path)).free,
        shared_memory_free=shutil.disk_usage(memory).free if memory.is_dir() else 0,
    )


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def problems(config: Config, info: Info, room: DiskBudget, hardware: Hardware) -> list[str]:
    """Return everything that stands in the way, a sentence each."""
    found = _split(config, hardware)
    recipe = find_recipe(config.recipe, info)
    if config.gold and info.gold is None:
        found.append("--gold needs a gold model, and the service has none loaded: start it with --gold demo-gold")
    if recipe.needs_gold and info.gold is None:
        found.append(f"recipe {recipe.name} is a gold reward, and the service has no gold model loaded")
    found += _calibration(config, recipe, info)
    if room.disk_free < room.disk_needed:
        found.append(
            f"the checkpoints need about {room.disk_needed / _GB:.1f} GB, {room.disk_free / _GB:.1f} GB are free: "
            "save less often (--save-every), or put --run-dir on another disk"
        )
    if config.wandb_project is not None and importlib.util.find_spec("wandb") is None:
        found.append("--wandb needs the package wandb: pip install wandb")
    return found + _key_and_cluster(os.environ)


def _key_and_cluster(environ: Mapping[str, str]) -> list[str]:
    """Only processes that this launch starts get its environment."""
    if key_from_environment(environ) is None or environ.get("RAY_ADDRESS", "local") == "local":
        return []
    return [
        f"{API_KEY_VARIABLE} is set, and so is RAY_ADDRESS: the workers of a cluster that runs already cannot be "
        "given the key. Unset RAY_ADDRESS to train on this machine, or let a proxy beside the workers add the key"
    ]


def _split(config: Config, hardware: Hardware) -> list[str]:
    """OpenRLHF finds out that a batch cannot be shared by its ranks only after the models are loaded."""
    batch, micro, ranks = config.effective_train_batch_size, config.micro_batch_size, hardware.n_ranks
    if batch % (micro * ranks) == 0 and config.rollouts_per_step % (micro * ranks) == 0:
        return []
    return [
        f"{batch} rollouts of a train batch cannot be shared by {ranks} GPUs in micro batches of {micro}: choose "
        "--prompts-per-step, --samples-per-prompt, --train-batch-size and --micro-batch-size so that they can, or "
        "name fewer GPUs in CUDA_VISIBLE_DEVICES"
    ]


def _calibration(config: Config, recipe: RecipeInfo, info: Info) -> list[str]:
    encoder = info.relevance.id if info.relevance is not None else None
    if recipe.calibrated_for in (None, encoder) or "--reward.clip_range" in _names(config.raw_flags):
        return []
    return [
        f"recipe {recipe.name} has ranges for the encoder {recipe.calibrated_for}, the service runs {encoder}: "
        "its rewards would leave OpenRLHF's clip range without a word. Use recipe rer, calibrate one for this "
        "encoder, or take the range into your own hands with `-- --reward.clip_range LOW HIGH`"
    ]


def _names(flags: Sequence[str]) -> set[str]:
    return {flag.split("=")[0] for flag in flags}


def find_recipe(name: str, info: Info) -> RecipeInfo:
    """Return the recipe called `name`; raise PreflightError with the known ones."""
    for recipe in info.recipes:
        if recipe.name == name:
            return recipe
    known = ", ".join(recipe.name for recipe in info.recipes)
    raise PreflightError(f"the service knows no recipe {name!r}; it knows {known}")


def _client(url: str, *, read_timeout_s: float, retry_budget_s: float) -> RewardClient:
    retry = RetryPolicy(budget_s=retry_budget_s)
    return RewardClient(url, api_key=key_from_environment(), read_timeout_s=read_timeout_s, retry=retry)


def service_info(url: str, *, wait_s: float = 60.0) -> Info:
    """Return what the service offers once it is ready; raise PreflightError with the cause when it is not."""
    try:
        with _client(url, read_timeout_s=30, retry_budget_s=wait_s) as client:
            client.ready()
            return client.info()
    except RewardError as exc:
        raise PreflightError(f"the reward service at {url} is not ready: {exc} {_SERVICE_HELP}") from exc


def why_not_ready(url: str) -> str | None:
    """Ask the service once; return None when it is ready, else the cause."""
    try:
        with _client(url, read_timeout_s=10, retry_budget_s=0) as client:
            client.ready()
    except RewardError as exc:
        return str(exc)
    return None


def trial_reward(
    endpoint: str, rendered_prompts: Sequence[str], labels: Sequence[str], *, timeout_s: float = 60.0
) -> str | None:
    """Post a made-up response to each prompt as OpenRLHF does; return why it has no reward, or None.

    Args:
        endpoint: the URL given to OpenRLHF.
        rendered_prompts: prompts after the chat template.
        labels: their labels, as in the training data.
        timeout_s: seconds to wait for an answer.
    """
    for prompt, label in zip(rendered_prompts, labels, strict=True):
        body = {"query": [prompt + _TRIAL_RESPONSE], "prompts": [prompt], "labels": [label]}
        try:
            response = httpx.post(endpoint, json=body, timeout=timeout_s, auth=api_key.basic_auth())
        except httpx.TransportError as exc:
            return f"{type(exc).__name__}: {exc}"
        if cause := _refusal(response):
            return cause
    return None


def _refusal(response: httpx.Response) -> str | None:
    if not response.is_success:
        return _problem_text(response)
    try:
        rewards = response.json()["rewards"]
    except (ValueError, KeyError, TypeError):
        return f"no rewards in the answer: {response.text[:300]}"
    return None if isinstance(rewards, list) and len(rewards) == 1 else f"one reward expected, got {rewards}"


def _problem_text(response: httpx.Response) -> str:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return f"{response.status_code} {response.reason_phrase}: {response.text[:300]}"
    details = [f"{error.field}: {error.message}" for error in problem.errors[:5]]
    return "; ".join([f"{problem.status} {problem.title}: {problem.detail}", *details])
