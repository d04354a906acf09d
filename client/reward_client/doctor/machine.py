"""Checks of this machine: disk, memory, shared memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from reward_client.doctor.check import Check, note, ok

GB = 1e9
DISK_BYTES = 5 * GB
"""A run of the embedded policy with its checkpoints takes less."""
MEMORY_BYTES = 8 * GB
"""The service and a training run of the embedded policy fit beside each other."""
SHARED_MEMORY_BYTES = 2 * GB
"""Ray keeps objects there; docker-compose.yml gives the trainer as much."""


def disk(folder: Path) -> Check:
    """Free disk space."""
    free = shutil.disk_usage(folder).free
    return _amount("disk", free, DISK_BYTES, f"free in {folder}", "use a --run-dir on a larger disk")


def memory() -> Check:
    """Memory of this machine, or of the control group that limits this process."""
    if not hasattr(os, "sysconf"):
        return note("memory", "unknown on this system")
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    cgroup = Path("/sys/fs/cgroup/memory.max")
    if cgroup.is_file() and (limit := cgroup.read_text().strip()).isdigit():
        limits.append(int(limit))
    fix = "train a smaller policy, or on a larger machine"
    return _amount("memory", min(limits), MEMORY_BYTES, "in total", fix)


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:  # noqa: S108 - the mount itself is checked
    """Size of shared memory, which a container limits to 64 MB by default."""
    if not folder.is_dir():
        return note("shared memory", f"{folder} does not exist")
    total, fix = shutil.disk_usage(folder).total, "start the container with --shm-size 2g"
    return _amount("shared memory", total, SHARED_MEMORY_BYTES, "in total", fix)


def _amount(subject: str, found: float, wanted: float, what: str, fix: str) -> Check:
    text = f"{found / GB:.1f} GB {what}"
    if found >= wanted:
        return ok(subject, text)
    return note(subject, f"{text}; {wanted / GB:.0f} GB are recommended for training", fix)
