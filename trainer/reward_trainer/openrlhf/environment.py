"""Environment of OpenRLHF's processes: a hook that runs in each of them, Ray's workers included, at start-up.

launcher: with_hook(environment, NAME) ──▶ PYTHONPATH, GLASSBOX_HOOKS
process:  hook/sitecustomize.py ──▶ install_hooks of cpu/ and api_key, as named in GLASSBOX_HOOKS
"""

import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

CPU_HOOK = "cpu"
API_KEY_HOOK = "api-key"
HOOKS_VARIABLE = "GLASSBOX_HOOKS"
"""Names of the hooks to install, separated by spaces."""

ROLLOUT_ENGINE = "rollout engine: transformers (CPU), not vLLM"
"""Written to the log, the record and the report of every run on a CPU."""

ROLLOUT_BATCH_VARIABLE = "GLASSBOX_ROLLOUT_BATCH"
"""Number of responses per step, for the rollout engine."""

_LOOPBACK = "localhost,127.0.0.1,::1"
"""Hosts that OpenRLHF must reach without the proxy of the environment; the client of this project always does."""
_HOOK_FOLDER = str(Path(__file__).parent / "hook")
_PACKAGES = ("reward_trainer", "reward_runs", "reward_evidence", "reward_client")


def with_hook(base: Mapping[str, str], name: str) -> dict[str, str]:
    """Return `base` with hook `name` added; a Python process started with it installs the hook."""
    ours = (_HOOK_FOLDER, *_package_folders())
    path = [entry for entry in base.get("PYTHONPATH", "").split(os.pathsep) if entry and entry not in ours]
    names = dict.fromkeys([*base.get(HOOKS_VARIABLE, "").split(), name])
    return {**base, "PYTHONPATH": os.pathsep.join([*ours, *path]), HOOKS_VARIABLE: " ".join(names)}


def _package_folders() -> list[str]:
    """Folders that contain our packages: Ray's workers have another working directory."""
    specs = map(find_spec, _PACKAGES)  # found, not imported
    return list(dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin))


def child_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with the defaults of every run: a private Ray, no telemetry, all lines of the
    workers, no proxy for this machine."""
    defaults = {
        "RAY_ADDRESS": "local",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_COLOR_PREFIX": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    direct = ",".join(filter(None, [base.get("no_proxy") or base.get("NO_PROXY"), _LOOPBACK]))
    return {**defaults, **base, "no_proxy": direct, "NO_PROXY": direct}


def cpu_environment(
    base: Mapping[str, str], *, n_devices: int, n_threads: int, rollouts_per_batch: int
) -> dict[str, str]:
    """Return `base` with what OpenRLHF's processes need on a CPU.

    Args:
        base: the environment to extend, usually `os.environ`.
        n_devices: number of GPUs that Ray assumes, for training ranks and engines.
        n_threads: torch threads per process; Ray's default is one.
        rollouts_per_batch: responses that a rollout engine generates in one step.
    """
    kept = {name: value for name, value in base.items() if name != "CUDA_VISIBLE_DEVICES"}  # Ray would count them
    return {
        **with_hook(kept, CPU_HOOK),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": str(n_threads),
        "OMP_WAIT_POLICY": base.get("OMP_WAIT_POLICY", "passive"),  # spinning threads starve service and workers
        "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": n_devices + 2, "GPU": n_devices}),
        ROLLOUT_BATCH_VARIABLE: str(rollouts_per_batch),
    }
