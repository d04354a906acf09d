"""Where models run, found without importing torch, which takes a second, on a machine that has no GPU."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_AMD_GPUS = Path("/dev/kfd")


def default_device() -> str:
    """`cuda` if torch can use a GPU, else `cpu`."""
    if not _may_have_gpu():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def is_cpu(device: str) -> bool:
    """Whether the name of a torch device is a CPU's."""
    return device in ("cpu", "cpu:0")


def starts_without_torch(device: str, backend: str) -> bool:
    """Whether a model on the embedded encoder's weights is first tried with OpenVINO alone."""
    return is_cpu(device) and backend != "torch"


def _may_have_gpu() -> bool:
    """Whether there may be a GPU that torch calls `cuda`; if in doubt, torch is asked."""
    if sys.platform == "darwin":
        return False
    if sys.platform != "linux" or _AMD_GPUS.exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")  # NVIDIA's driver
    except OSError:
        return False
    return True
