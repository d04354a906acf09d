"""DeepSpeed on a CPU in fp32, with torch's own fused AdamW, so that nothing has to be compiled.

bf16 is emulated on most CPUs and several times slower than fp32, so the parser learns `--ds.param_dtype fp32`.
`torch_adam` is DeepSpeed's own switch in its configuration; OpenRLHF's command line has no name for it.
"""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

from reward_trainer.openrlhf.cpu.imports import Patch

__all__ = ["PATCHES"]


def _without_compiled_collectives(deepspeed_ops: ModuleType) -> None:
    """gloo carries the collectives; DeepSpeed's shared-memory ones would need a C++ compiler."""
    deepspeed_ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _clipping_keeps_the_norm(engine: Any) -> None:
    """Without ZeRO, DeepSpeed clips and forgets the norm, so OpenRLHF would log a gradient norm of 0."""

    def clip_fp32_gradients(self: Any) -> None:
        parameters = self.module.parameters()
        self._global_grad_norm = engine.clip_grad_norm_(
            parameters, max_norm=self.gradient_clipping(), mpu=self.mpu
        )

    engine.DeepSpeedEngine.clip_fp32_gradients = clip_fp32_gradients


def _parser_admits_fp32(_: ModuleType) -> None:
    container: Any = argparse._ActionsContainer
    real_add_argument = container.add_argument

    def add_argument(self: Any, *names: str, **options: Any) -> argparse.Action:
        if "--ds.param_dtype" in names:
            options["choices"] = [*options["choices"], "fp32"]
        action: argparse.Action = real_add_argument(self, *names, **options)
        return action

    container.add_argument = add_argument


def _dtype_admits_fp32(utils: Any) -> None:
    import torch

    real_convert = utils.convert_to_torch_dtype

    def convert_to_torch_dtype(param_dtype: str) -> torch.dtype:
        return torch.float32 if param_dtype == "fp32" else real_convert(param_dtype)

    utils.convert_to_torch_dtype = convert_to_torch_dtype


def _optimizer_of_torch(strategy: Any) -> None:
    real_config = strategy.get_train_ds_config

    def get_train_ds_config(*args: Any, **options: Any) -> dict[str, Any]:
        config: dict[str, Any] = real_config(*args, **options)
        optimizer = config.get("optimizer")
        if optimizer is not None and optimizer["type"] == "AdamW":
            optimizer["params"] |= {"torch_adam": True, "fused": True}
        return config

    strategy.get_train_ds_config = get_train_ds_config


PATCHES: dict[str, Patch] = {
    "deepspeed.ops": _without_compiled_collectives,
    "deepspeed.runtime.engine": _clipping_keeps_the_norm,
    "openrlhf.cli": _parser_admits_fp32,
    "openrlhf.utils.utils": _dtype_admits_fp32,
    "openrlhf.utils.deepspeed.deepspeed": _optimizer_of_torch,
}
