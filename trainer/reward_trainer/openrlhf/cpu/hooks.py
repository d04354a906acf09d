"""Installs the stand-ins and patches for a CPU in a process of OpenRLHF.

The functions of `torch.cuda` that OpenRLHF calls without checking for a GPU refer to the CPU. They are patched
when `openrlhf` is imported, so other programs in the same environment use the real torch.

DeepSpeed runs in fp32, with torch's fused AdamW, without compiled extensions: bf16 is emulated on most CPUs and
several times slower, so the parser accepts `--ds.param_dtype fp32`. `torch_adam` is an option of DeepSpeed's
configuration that OpenRLHF's command line does not offer.
"""

import argparse
import os
from types import ModuleType, SimpleNamespace
from typing import Any

from reward_trainer.openrlhf import import_hook
from reward_trainer.openrlhf.cpu import vllm_standin
from reward_trainer.openrlhf.import_hook import Patch


class _CpuDevice(str):
    """torch reads it as "cpu"; f"cuda:{device}", which OpenRLHF builds without using it, remains valid."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return "0"


def _patch_torch(_: ModuleType) -> None:
    import torch
    import torch.distributed.device_mesh as device_mesh

    cuda: Any = torch.cuda
    cuda.current_device = lambda: _CpuDevice("cpu")
    cuda.get_device_properties = lambda device=None: SimpleNamespace(uuid=f"cpu-{os.getpid()}")
    # One function each: torch's compiler rejects a function that it knows by two names.
    cuda.set_device = lambda device: None  # the CPU is the only device
    cuda.synchronize = lambda device=None: None  # operations on a CPU are synchronous
    cuda.current_stream = lambda device=None: None  # a CPU has no streams
    real_mesh = device_mesh.init_device_mesh

    def init_device_mesh(device_type: str, *args: Any, **options: Any) -> Any:
        return real_mesh("cpu", *args, **options)

    device_mesh.init_device_mesh = init_device_mesh


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


def accept_fp32_argument(_: ModuleType | None = None) -> None:
    """Make parsers of this process accept `--ds.param_dtype fp32`."""
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


_PATCHES: dict[str, Patch] = {
    "openrlhf": _patch_torch,
    "deepspeed.ops": _disable_compiled_collectives,
    "deepspeed.runtime.engine": _keep_gradient_norm,
    "openrlhf.cli": accept_fp32_argument,
    "openrlhf.utils.utils": _accept_fp32_dtype,
    "openrlhf.utils.deepspeed.deepspeed": _use_torch_adam,
}


def install_hooks() -> None:
    """Register the stand-ins and patches; called once, before any large library is imported."""
    import_hook.install(stand_ins=vllm_standin.STAND_INS, patches=_PATCHES)
