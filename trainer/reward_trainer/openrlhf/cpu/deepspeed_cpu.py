"""DeepSpeed on a CPU in fp32, with torch's fused AdamW, without compiled extensions.

bf16 is emulated on most CPUs and several times slower than fp32, so the parser accepts `--ds.param_dtype fp32`.
`torch_adam` is an option of DeepSpeed's configuration that OpenRLHF's command line does not offer.
"""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

from reward_trainer.openrlhf.import_hook import Patch


def _disable_compiled_collectives(deepspeed_ops: ModuleType) -> None:
    """Use gloo for collectives; DeepSpeed's shared-memory ones need a C++ compiler."""
    deepspeed_ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _keep_gradient_norm(engine: Any) -> None:
    """Store the norm when clipping: without ZeRO, DeepSpeed does not, and OpenRLHF would log 0."""

    def clip_fp32_gradients(self: Any) -> None:
        parameters = self.module.parameters()
        self._global_grad_norm = engine.clip_grad_norm_(
            parameters, max_norm=self.gradient_clipping(), mpu=self.mpu
        )

    engine.DeepSpeedEngine.clip_fp32_gradients = clip_fp32_gradients


def _accept_fp32_argument(_: ModuleType) -> None:
    container: Any = argparse._ActionsContainer
    real_add_argument = container.add_argument

    def add_argument(self: Any, *names: str, **options: Any) -> argparse.Action:
        if "--ds.param_dtype" in names:
            options["choices"] = [*options["choices"], "fp32"]
        action: argparse.Action = real_add_argument(self, *names, **options)
        return action

    container.add_argument = add_argument


def _accept_fp32_dtype(utils: Any) -> None:
    import torch

    real_convert = utils.convert_to_torch_dtype

    def convert_to_torch_dtype(param_dtype: str) -> torch.dtype:
        return torch.float32 if param_dtype == "fp32" else real_convert(param_dtype)

    utils.convert_to_torch_dtype = convert_to_torch_dtype


def _use_torch_adam(strategy: Any) -> None:
    real_config = strategy.get_train_ds_config

    def get_train_ds_config(*args: Any, **options: Any) -> dict[str, Any]:
        config: dict[str, Any] = real_config(*args, **options)
        optimizer = config.get("optimizer")
        if optimizer is not None and optimizer["type"] == "AdamW":
            optimizer["params"] |= {"torch_adam": True, "fused": True}
        return config

    strategy.get_train_ds_config = get_train_ds_config


PATCHES: dict[str, Patch] = {
    "deepspeed.ops": _disable_compiled_collectives,
    "deepspeed.runtime.engine": _keep_gradient_norm,
    "openrlhf.cli": _accept_fp32_argument,
    "openrlhf.utils.utils": _accept_fp32_dtype,
    "openrlhf.utils.deepspeed.deepspeed": _use_torch_adam,
}
