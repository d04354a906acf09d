"""Median durations, the GPU's work included."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def finish(device: str) -> None:
    """Return when the GPU has finished its queued work."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(action: Callable[[], object], device: str) -> float:
    """Seconds of one call of `action`."""
    finish(device)
    started = time.perf_counter()
    action()
    finish(device)
    return time.perf_counter() - started


def median_s(action: Callable[[], object], device: str, *, rounds: int = 7, warm_up: int = 2) -> float:
    """Median seconds of `action` after the warm-up."""
    for _ in range(warm_up):
        action()
    return statistics.median(seconds(action, device) for _ in range(rounds))
