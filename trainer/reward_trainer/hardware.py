"""What this machine has: GPUs, cores, disk and shared memory."""

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from reward_runs.layout import RunDir
from reward_trainer.config import Config


@dataclass(frozen=True)
class Hardware:
    """Devices that a run uses."""

    n_gpus: int
    n_threads: int
    """Physical cores, for torch on a CPU."""
    n_unused: int = 0
    """GPUs that the run cannot use, because this environment has no vLLM or flash attention."""

    @property
    def has_gpu(self) -> bool:
        """Whether vLLM and CUDA kernels can run."""
        return self.n_gpus > 0


def detect_hardware() -> Hardware:
    """Return the usable CUDA devices, and the physical cores that this process may use."""
    import psutil
    import torch

    allowed = len(os.sched_getaffinity(0))
    n_threads = max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))
    n_gpus = torch.cuda.device_count()
    if missing_gpu_packages():
        return Hardware(n_gpus=0, n_threads=n_threads, n_unused=n_gpus)
    return Hardware(n_gpus=n_gpus, n_threads=n_threads)


def missing_gpu_packages() -> list[str]:
    """Return the packages that OpenRLHF needs on a GPU and that are not installed."""
    return [name for name in ("vllm", "flash_attn") if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class DiskBudget:
    """Required and available space, in bytes."""

    disk_needed: int
    disk_free: int
    shared_memory_free: int


def estimate_disk(config: Config, n_parameters: int, run: RunDir, *, bytes_per_weight: int) -> DiskBudget:
    """Estimate the disk space for the remaining checkpoints: all saved policies and two optimizer states.

    A state has the weights, Adam's two moments and, if sharded, a copy: at most 16 bytes per weight.
    """
    n_policies = max(0, config.steps // config.save_every + 2 - len(run.saved_steps()))
    n_states = max(0, 2 - sum(1 for _ in run.state.glob("_actor/global_step*")))
    needed = n_parameters * (n_policies * bytes_per_weight + n_states * 16)
    existing = next(parent for parent in (run.path, *run.path.parents) if parent.exists())
    memory = Path("/dev/shm")  # noqa: S108 - the kernel's shared memory, which Ray's object store uses
    return DiskBudget(
        disk_needed=needed,
        disk_free=shutil.disk_usage(existing).free,
        shared_memory_free=shutil.disk_usage(memory).free if memory.is_dir() else 0,
    )
