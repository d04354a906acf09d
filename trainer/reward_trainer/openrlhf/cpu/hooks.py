"""Installs the stand-ins and patches for a CPU in a process of OpenRLHF."""

from __future__ import annotations

from reward_trainer.openrlhf import import_hook
from reward_trainer.openrlhf.cpu import deepspeed_cpu, torch_cuda, vllm_standin


def install_hooks() -> None:
    """Register the stand-ins and patches; called once, before any large library is imported."""
    import_hook.install(
        stand_ins=vllm_standin.STAND_INS,
        patches={**torch_cuda.PATCHES, **deepspeed_cpu.PATCHES},
    )
