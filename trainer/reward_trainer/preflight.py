"""Checks before the launch, for problems that would otherwise appear after minutes of training, or never.

    config, service info, disk budget, hardware ──▶ find_problems() ──▶ sentences, raised together by `prepare`

Pure functions: `hardware` inspects the machine, `service_probe` sends the requests.
"""

import importlib.util
from collections.abc import Mapping

from reward_client.info import find_recipe, suits_encoder
from reward_client.urls import API_KEY_VARIABLE, key_from_environment
from reward_client.wire import Info, RecipeInfo
from reward_runs.files import size
from reward_trainer.config import Config
from reward_trainer.hardware import DiskBudget, Hardware
from reward_trainer.layout import Layout
from reward_trainer.stop_rules import NEED_GOLD, StopRule

OPENRLHF, DEEPSPEED = "0.11.2", "0.19.6"
"""Releases that this trainer is written for; a test compares constraints, docs and images with them."""
_INSTALL_ON_GPU = dict.fromkeys(("openrlhf", "deepspeed"), f'pip install "openrlhf[vllm]=={OPENRLHF}"')
_INSTALL_ON_CPU = {
    "openrlhf": f"pip install --no-deps openrlhf=={OPENRLHF}",
    "deepspeed": f"DS_BUILD_OPS=0 pip install --no-deps --no-build-isolation deepspeed=={DEEPSPEED}",
}


def find_problems(
    config: Config, info: Info, budget: DiskBudget, hardware: Hardware, environ: Mapping[str, str]
) -> list[str]:
    """Return every problem that prevents the run, one sentence each."""
    recipe = find_recipe(info, config.recipe)
    return [
        *_packages(hardware),
        *_layout(config, hardware, environ),
        *_batch_split(config, Layout.of(config, hardware)),
        *_gold(config, recipe, info),
        *_calibration(config, recipe, info),
        *_disk(budget),
        *_trackers(config),
        *_stop_rules(config, info),
        *_key_on_cluster(environ),
    ]


def _packages(hardware: Hardware) -> list[str]:
    """The extra `train` contains neither: how they are installed depends on the devices."""
    commands = _INSTALL_ON_GPU if hardware.has_gpu else _INSTALL_ON_CPU
    return [
        f"the package {name} is not installed: {command}"
        for name, command in commands.items()
        if importlib.util.find_spec(name) is None
    ]


def _layout(config: Config, hardware: Hardware, environ: Mapping[str, str]) -> list[str]:
    found = []
    if config.asynchronous and hardware.n_gpus == 1:
        found.append("--async needs two GPUs or more: one for training, one for rollouts")
    if config.nodes > 1 and not hardware.has_gpu:
        found.append("--nodes needs GPUs that this machine can use: on a CPU, a run has one node")
    if config.nodes > 1 and environ.get("RAY_ADDRESS", "local") == "local":
        found.append("--nodes needs a Ray cluster: start one with `ray start`, and set RAY_ADDRESS to its address")
    return found


def _batch_split(config: Config, layout: Layout) -> list[str]:
    """OpenRLHF detects a batch that its ranks cannot divide only after the models are loaded."""
    batch, micro, ranks = config.effective_train_batch_size, config.micro_batch_size, layout.n_ranks
    if batch % (micro * ranks) == 0 and config.rollouts_per_step % (micro * ranks) == 0:
        return []
    return [
        f"a train batch of {batch} rollouts cannot be divided among {ranks} GPUs in micro batches of {micro}: "
        "change --prompts-per-step, --samples-per-prompt, --train-batch-size or --micro-batch-size, or "
        "use fewer GPUs (CUDA_VISIBLE_DEVICES)"
    ]


def _gold(config: Config, recipe: RecipeInfo, info: Info) -> list[str]:
    if info.gold is not None:
        return []
    found = []
    if config.gold:
        found.append("--gold needs a gold model, and the service has none loaded: start it with --gold demo-gold")
    if recipe.needs_gold:
        found.append(f"recipe {recipe.name} needs a gold model, and the service has no gold model loaded")
    return found


def _calibration(config: Config, recipe: RecipeInfo, info: Info) -> list[str]:
    encoder = info.relevance.id if info.relevance is not None else None
    clip_range_is_given = "--reward.clip_range" in {flag.split("=")[0] for flag in config.raw_flags}
    if clip_range_is_given or suits_encoder(recipe, encoder):
        return []
    wanted = recipe.calibrated_for
    return [
        f"recipe {recipe.name} is calibrated for encoder {wanted}, the service uses {encoder}: "
        "OpenRLHF would silently clip its rewards. Use --recipe rer, which has the same factors, or --recipe "
        f"glassbox; or start the service with --encoder {wanted}; or fit a recipe to this encoder (glassbox "
        "calibrate); or set the clip range with `-- --reward.clip_range LOW HIGH`"
    ]


def _disk(budget: DiskBudget) -> list[str]:
    if budget.disk_free >= budget.disk_needed:
        return []
    return [
        f"the checkpoints need about {size(budget.disk_needed)}, {size(budget.disk_free)} are free: "
        "save less often (--save-every), or choose a --run-dir on another disk"
    ]


def _trackers(config: Config) -> list[str]:
    wanted = {"wandb": config.wandb_project, "mlflow": config.mlflow_experiment}
    return [
        f"--{name} needs the package {name}: pip install {name}"
        for name, value in wanted.items()
        if value is not None and importlib.util.find_spec(name) is None
    ]


def _stop_rules(config: Config, info: Info) -> list[str]:
    if info.gold is not None:
        return []
    rules = [rule for rule in map(StopRule.parse, config.stop_when) if rule.figure in NEED_GOLD]
    return [f"stop rule {rule.text!r} needs a gold model, and the service has none loaded" for rule in rules]


def _key_on_cluster(environ: Mapping[str, str]) -> list[str]:
    """Only processes that this launch starts inherit its environment."""
    if key_from_environment(environ) is None or environ.get("RAY_ADDRESS", "local") == "local":
        return []
    return [
        f"{API_KEY_VARIABLE} and RAY_ADDRESS are both set: the workers of an existing Ray cluster do not receive "
        "the key. Unset RAY_ADDRESS to train on this machine, or let a proxy beside the workers add the key"
    ]
