"""The environment in which OpenRLHF's processes train on a CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping

from reward_trainer.openrlhf.environment import CPU_HOOK, with_hook

ROLLOUT_ENGINE = "rollout engine: transformers (CPU), not vLLM"
"""Written to the log, the record and the report of every run on a CPU."""

ROLLOUT_BATCH_VARIABLE = "GLASSBOX_ROLLOUT_BATCH"
"""Number of responses per step, for the rollout engine."""


def environment(
    base: Mapping[str, str], *, n_devices: int, n_threads: int, rollouts_per_batch: int
) -> dict[str, str]:
    """Return `base` with what OpenRLHF's processes need on a CPU.

    Args:
        base: the environment to extend, usually `os.environ`.
        n_devices: number of GPUs that Ray assumes; a training rank and an engine share each.
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
