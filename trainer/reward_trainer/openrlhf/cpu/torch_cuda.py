"""Replaces the functions of `torch.cuda` that OpenRLHF calls without checking for a GPU.

They refer to the CPU. They are patched when `openrlhf` is imported, so other programs in the same environment use
the real torch.
"""

from __future__ import annotations

import os
from types import ModuleType, SimpleNamespace
from typing import Any

from reward_trainer.openrlhf.import_hook import Patch


class _CpuDevice(str):
    """torch reads it as "cpu"; f"cuda:{device}", which OpenRLHF builds without using it, remains valid."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return "0"


def _current_device() -> _CpuDevice:
    return _CpuDevice("cpu")


def _get_device_properties(device: object = None) -> SimpleNamespace:
    return SimpleNamespace(uuid=f"cpu-{os.getpid()}")


def _set_device(device: object) -> None:
    """Do nothing: the CPU is the only device."""


def _synchronize(device: object = None) -> None:
    """Do nothing: operations on a CPU are synchronous."""


def _current_stream(device: object = None) -> None:
    """Return None: a CPU has no streams."""


def _patch_torch(_: ModuleType) -> None:
    import torch
    import torch.distributed.device_mesh as device_mesh

    cuda: Any = torch.cuda
    for function in (_current_device, _get_device_properties, _set_device, _synchronize, _current_stream):
        setattr(cuda, function.__name__.removeprefix("_"), function)
    real_mesh = device_mesh.init_device_mesh

    def init_device_mesh(device_type: str, *args: Any, **options: Any) -> Any:
        return real_mesh("cpu", *args, **options)

    device_mesh.init_device_mesh = init_device_mesh


PATCHES: dict[str, Patch] = {"openrlhf": _patch_torch}
