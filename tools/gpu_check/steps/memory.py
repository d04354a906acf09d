"""Memory: peaks, and a deliberately too large batch, with other requests, in the worker."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reward_service.batching import BatchLimits, BatchQueue, BatchStats, ModelWorker, Submission, Unit
from reward_service.models.encoder import SentenceEncoder, load_encoder
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Tokens
from reward_service.scoring.embedding import Vector
from reward_service.settings import EMBEDDED_ENCODER
from tools.gpu_check.gold_models import SIZES, built
from tools.gpu_check.plain import random_rows
from tools.gpu_check.setting import Setting

Vectors = NDArray[np.float32]
MIB = 2**20


def run(setting: Setting) -> None:
    """Measure peaks first: they determine which batch is too large."""
    peak = _peaks(setting) if setting.device == "cuda" else 0
    asyncio.run(_too_large(setting, peak))


def _peaks(setting: Setting) -> int:
    """Measure the peak of each configuration at its default batch shape; bytes of the encoder's in fp32."""
    peaks = [_encoder_peak(setting, precision, width) for precision in setting.precisions for width in (64, 512)]
    for name in SIZES:
        for width in (256, 4096):
            _gold_peak(setting, name, width)
    return peaks[0]


def _encoder_peak(setting: Setting, precision: Any, width: int) -> int:
    encoder = load_encoder(EMBEDDED_ENCODER, setting.device, precision=precision)
    rows = encoder.limits.max_tokens // width
    peak = _peak(partial(encoder.embed, random_rows(rows, [width, width - 8])))
    _note_peak(setting, f"encoder {precision}, default shape {rows} × {width}", peak)
    return peak


def _gold_peak(setting: Setting, name: str, width: int) -> None:
    gold = load_gold(str(built(name, setting.scratch, setting.device)), setting.device)
    rows = gold.limits.max_tokens // width
    peak = _peak(partial(gold.score, random_rows(rows, [width, width - 8])))
    _note_peak(setting, f"gold {name}, default shape {rows} × {width}", peak)


def _peak(action: Callable[[], object]) -> int:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    action()
    return int(torch.cuda.max_memory_allocated())


def _note_peak(setting: Setting, name: str, peak: int) -> None:
    card = torch.cuda.get_device_properties(0).total_memory
    said = f"the card has {card / peak:.0f} times as much"
    setting.note(f"{name}: peak, weights included", peak / MIB, "MiB", said)


class _Watch:
    """Counts the batches that the worker reports."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.done: list[BatchStats] = []

    def batch_done(self, worker: str, batch: BatchStats) -> None:  # noqa: ARG002
        self.done.append(batch)

    def batch_failed(self, worker: str, cause: str) -> None:  # noqa: ARG002
        self.failed.append(cause)

    def not_finite(self, worker: str) -> None: ...

    def watch_queue(self, worker: str, queue: BatchQueue[Any, Any]) -> None: ...

    def waited(self, worker: str, seconds: float) -> None: ...

    def restarted(self, worker: str) -> None: ...


async def _too_large(setting: Setting, peak: int) -> None:
    """Sixteen times the rows that fit: the worker must halve the batch, and another request must be answered."""
    encoder = load_encoder(EMBEDDED_ENCODER, setting.device, backend="torch")
    width = setting.size(128, 8)
    fits = setting.size(512, 2)
    many = random_rows(16 * fits, [width, width - 3], seed=1)
    few = random_rows(fits // 2, [width, width - 5], seed=2)
    small = BatchLimits(max_tokens=fits * width, max_items=fits)
    expected = np.concatenate([encoder.embed(many[i : i + fits]) for i in range(0, len(many), fits)])
    near = encoder.embed(few)
    watch = _Watch()
    _cap(setting, encoder, many[:fits], peak)
    worker: ModelWorker[SentenceEncoder, Tokens, Vector] = ModelWorker(
        "encoder",
        lambda: encoder,
        lambda model, batch: list(_embed(setting, model, batch, 4 * fits)),
        limits=lambda _: BatchLimits(32 * small.max_tokens, 32 * small.max_items),
        max_waiting_items=64 * fits,
        metrics_hook=watch,
    )
    async with worker:
        await worker.loaded()
        await _submit(worker, _units(few, 3 * 10**6))  # the worker's thread allocates its buffers here
        before = torch.cuda.memory_allocated() if setting.device == "cuda" else 0
        large, neighbour = await asyncio.gather(
            _submit(worker, _units(many, 0)), _submit(worker, _units(few, 10**6))
        )
        again = await _submit(worker, _units(few, 2 * 10**6))
    causes = ", ".join(sorted(set(watch.failed)))
    setting.note("too large a batch: passes that failed", len(watch.failed), note=causes, kept=bool(watch.failed))
    largest = max(batch.items for batch in watch.done)
    setting.note("too large a batch: rows of the largest pass that succeeded", largest, note=f"of {len(many)}")
    for name, outcomes, wanted in (
        ("its own items", large.outcomes, expected),
        ("its neighbours", neighbour.outcomes, near),
        ("a request after it", again.outcomes, near),
    ):
        _note_answers(setting, name, outcomes, wanted)
    if setting.device == "cuda":
        after, held = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        said = f"{before / MIB:.0f} MiB before, {after / MIB:.0f} after; {held / MIB:.0f} held for the next pass"
        setting.note(
            "too large a batch: memory in use, after ÷ before", after / before, note=said, kept=after <= before
        )


async def _submit(
    worker: ModelWorker[SentenceEncoder, Tokens, Vector], units: Sequence[Unit[Tokens]]
) -> Submission[Vector]:
    """The submission of `units`, once it has all outcomes."""
    submission = await worker.enqueue(units)
    try:
        await submission.wait()
    finally:
        submission.close()
    return submission


def _cap(setting: Setting, encoder: SentenceEncoder, rows: Sequence[Tokens], peak: int) -> None:
    """Let this process have four times what the rows that fit take."""
    if setting.device != "cuda":
        return
    used = max(_peak(lambda: encoder.embed(rows)), peak // 16)
    card = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 4 * used / card))
    setting.note("too large a batch: memory that it may take", 4 * used / MIB, "MiB")


def _embed(setting: Setting, model: SentenceEncoder, batch: Sequence[Tokens], most: int) -> list[Vector]:
    """The forward pass; a dry run raises the error that a GPU would."""
    if setting.device != "cuda" and len(batch) > most:
        raise torch.OutOfMemoryError(f"{len(batch)} rows are too many for the dry run")
    return list(model.embed(batch))


def _units(rows: Sequence[Tokens], start: int) -> list[Unit[Tokens]]:
    return [Unit(start + i, row, len(row)) for i, row in enumerate(rows)]


def _note_answers(setting: Setting, name: str, outcomes: Sequence[Vector | Exception], expected: Vectors) -> None:
    answered = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    all_there = len(answered) == len(expected)
    share = len(answered) / len(expected)
    setting.note(f"too large a batch: {name}, answered", 100 * share, "%", kept=all_there)
    if all_there:
        apart = float(np.abs(np.stack(answered) - expected).max())
        setting.note(f"too large a batch: {name}, largest deviation", apart, kept=apart <= 1e-3)
