"""Hidden states below the trained layers, computed once and kept in a file.

    rows ──▶ lower half ──▶ states-….bf16 (tokens, D), mapped into memory ──▶ every epoch

Equal rows are kept once. The file can be completed after an interruption.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from reward_client.writing import writing
from reward_runs.errors import ConfigError
from reward_runs.files import replace_text, size
from reward_trainer.gold.model import GoldNet
from reward_trainer.gold.text import Encoded, to_tensors

Log = Callable[[str], None]
States = Callable[[Sequence[Encoded]], torch.Tensor]
"""Returns the hidden states (B, T, D) of rows, padded on the right."""

ROWS_AT_ONCE = 16
"""Rows of a forward pass; they have similar lengths."""

RECORD_EVERY = 20
"""Forward passes between two records of what is complete."""


def uncached(net: GoldNet, precision: torch.dtype) -> States:
    """Return a function that computes states when they are needed."""

    def compute(rows: Sequence[Encoded]) -> torch.Tensor:
        with autocast(net, precision):
            return net.lower(to_tensors(rows, net.model.device))

    return compute


def autocast(net: GoldNet, precision: torch.dtype) -> Any:
    """Return the context in which matrix products have `precision`."""
    return torch.autocast(net.model.device.type, precision, enabled=precision != torch.float32)


def cached(net: GoldNet, rows: Sequence[Encoded], path: Path, precision: torch.dtype, log: Log) -> States:
    """Return a function that reads states from `path`, after completing that file.

    `path` must be used for the same rows and the same lower half only. Raises ConfigError when the disk is too
    small.
    """
    unique = sorted({row.key for row in rows}, key=lambda one: (-len(one[0]), one))
    starts, n_tokens = {}, 0
    for one in unique:
        starts[one] = n_tokens
        n_tokens += len(one[0])
    dim = net.model.config.get_text_config().hidden_size
    _check_disk(path, 2 * n_tokens * dim)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    stored = torch.from_file(str(path), shared=True, size=n_tokens * dim, dtype=torch.bfloat16).view(n_tokens, dim)
    _complete(stored, [Encoded(list(ids), first) for ids, first in unique], path, uncached(net, precision), log)

    def read(batch: Sequence[Encoded]) -> torch.Tensor:
        hidden = torch.zeros(len(batch), max(len(row.ids) for row in batch), dim)
        for i, row in enumerate(batch):
            start = starts[row.key]
            hidden[i, : len(row.ids)] = stored[start : start + len(row.ids)]
        return hidden.to(net.model.device)

    return read


def _complete(stored: torch.Tensor, rows: Sequence[Encoded], path: Path, states: States, log: Log) -> None:
    """Compute the states of the rows that `path` does not have yet."""
    record = path.with_suffix(".rows")
    done = int(record.read_text(encoding="utf-8")) if record.is_file() else 0
    ends = torch.tensor([len(row.ids) for row in rows]).cumsum(0).tolist()
    before, started = (ends[done - 1] if done else 0), time.monotonic()
    for n, start in enumerate(range(done, len(rows), ROWS_AT_ONCE), 1):
        batch = rows[start : start + ROWS_AT_ONCE]
        done = start + len(batch)
        for row, end, hidden in zip(batch, ends[start:done], states(batch), strict=True):
            stored[end - len(row.ids) : end] = hidden[: len(row.ids)]
        if n % RECORD_EVERY == 0 or done == len(rows):
            replace_text(record, str(done))
            speed = (ends[done - 1] - before) / (time.monotonic() - started)
            left = (ends[-1] - ends[done - 1]) / speed / 60
            log(f"lower layers: {done} of {len(rows)} rows, {speed:.0f} tokens/s, {left:.1f} min left")


def _check_disk(path: Path, n_bytes: int) -> None:
    """Raise ConfigError when the states do not fit on the disk."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free + (path.stat().st_size if path.is_file() else 0)
    if free < n_bytes * 1.05:
        raise ConfigError(
            f"the states of the lower layers need {size(n_bytes)}, and {folder} has {size(free)} "
            "free: choose another --work folder, fewer --rows, or leave --work out"
        )
