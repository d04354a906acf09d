"""What lets the unmodified OpenRLHF train on a machine without a GPU.

    launch ─ environment() ─▶ OpenRLHF's processes, Ray's workers too ─ bootstrap.py ─▶ install_hooks()
           ├─ imports.py        serves stand-in modules, runs patches at import
           ├─ torch_cuda.py     `torch.cuda` names a CPU
           ├─ deepspeed_cpu.py  DeepSpeed and the parser in fp32, nothing to compile
           └─ vllm_standin.py   the `vllm` that OpenRLHF imports
              ├─ engine.py      generates with Transformers
              └─ gloo.py        receives weights

Real: OpenRLHF's parser, Ray actors, prompt loader, HTTP reward client, advantages, losses, DeepSpeed, checkpoints.
Not covered: vLLM itself, CUDA IPC and NCCL, flash attention, packing, sleep mode, memory limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from reward_trainer.openrlhf import bootstrap

__all__ = ["ROLLOUT_BATCH_VARIABLE", "ROLLOUT_ENGINE", "environment", "install_hooks"]

ROLLOUT_ENGINE = "rollout engine: transformers (CPU), not vLLM"
"""Stands in every log, config and report of a run that took place here."""

ROLLOUT_BATCH_VARIABLE = "GLASSBOX_ROLLOUT_BATCH"
"""Tells the rollout engine how many responses a step asks of it."""


def environment(
    base: Mapping[str, str], *, n_devices: int, n_threads: int, rollouts_per_batch: int
) -> dict[str, str]:
    """Return `base` plus what OpenRLHF's processes need here.

    Args:
        base: the environment to extend, usually `os.environ`.
        n_devices: how many "GPUs" Ray shall believe in; a training rank and an engine share each.
        n_threads: torch threads per process; Ray would give one.
        rollouts_per_batch: responses that a rollout engine is asked for at a time.
    """
    kept = {name: value for name, value in base.items() if name != "CUDA_VISIBLE_DEVICES"}  # Ray would count them
    return {
        **bootstrap.with_hook(kept, bootstrap.CPU),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": str(n_threads),
        "OMP_WAIT_POLICY": base.get("OMP_WAIT_POLICY", "passive"),  # spinning threads starve service and workers
        "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": n_devices + 2, "GPU": n_devices}),
        ROLLOUT_BATCH_VARIABLE: str(rollouts_per_batch),
    }


def install_hooks() -> None:
    """Prepare this interpreter; called once, before anything heavy is imported."""
    from reward_trainer.openrlhf.cpu import deepspeed_cpu, imports, torch_cuda, vllm_standin

    imports.install(
        stand_ins=vllm_standin.STAND_INS,
        patches={**torch_cuda.PATCHES, **deepspeed_cpu.PATCHES},
    )
