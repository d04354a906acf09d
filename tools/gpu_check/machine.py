"""Describe the machine and the versions."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "transformers", "tokenizers", "sentence-transformers", "numpy", "pydantic", "fastapi")


def describe(device: str, commit: str | None) -> dict[str, str]:
    """Card, driver, versions, date and commit. Imports torch, but does not start CUDA in this process."""
    import torch

    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or _output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
        "device": device,
        "card": _card() if device == "cuda" else "none: a dry run, whose figures say nothing",
        "cuda of torch": str(torch.version.cuda),
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
    }
    return facts | {name: _version(name) for name in PACKAGES}


def _card() -> str:
    return _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as exc:
        return f"not known ({type(exc).__name__})"
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
