"""Bradley-Terry by maximum likelihood: P(chosen beats rejected) = sigmoid(score(chosen) − score(rejected)).

    shuffled pairs ──▶ batches of like length ──▶ lower half (once) ──▶ upper half ──▶ −log P ──▶ AdamW

R. A. Bradley, M. E. Terry, "Rank analysis of incomplete block designs", Biometrika 39 (1952).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid
from transformers import get_linear_schedule_with_warmup

from reward_trainer.gold.model import GoldNet
from reward_trainer.gold.text import Encoded, to_tensors

__all__ = ["FitSettings", "fit", "score_rows"]

Say = Callable[[str], None]

SORTED_BATCHES = 40
"""Batches within which pairs are sorted by length: little padding, and batches still differ between epochs."""

SAID_EVERY = 20
"""Batches between two progress lines."""


@dataclass(frozen=True)
class FitSettings:
    """How the top of the model is fitted."""

    n_trained_layers: int = 2
    epochs: int = 1
    batch_pairs: int = 16
    learning_rate: float = 2e-4
    """Peak, reached after a tenth of the steps and falling to 0 linearly."""
    weight_decay: float = 0.01
    seed: int = 0
    precision: torch.dtype = torch.float32
    """Number format of the matrix products while fitting; stored weights and scores are float32."""


def fit(net: GoldNet, pairs: Sequence[tuple[Encoded, Encoded]], settings: FitSettings, say: Say) -> None:
    """Train `net` in place on (chosen, rejected) pairs, saying progress."""
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    epochs = [length_batches(pairs, settings.batch_pairs, rng) for _ in range(settings.epochs)]
    steps = [batch for epoch in epochs for batch in epoch]
    optimizer = torch.optim.AdamW(
        net.trained_parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = get_linear_schedule_with_warmup(optimizer, max(1, len(steps) // 10), len(steps))
    progress = _Progress(len(steps), say)
    for batch in steps:
        margin = _margin(net, [pairs[i] for i in batch], settings.precision)
        loss = -logsigmoid(margin).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.trained_parameters.values(), 1.0)
        optimizer.step()
        schedule.step()
        progress.step(loss.item(), (margin > 0).float().mean().item())


def _margin(net: GoldNet, pairs: Sequence[tuple[Encoded, Encoded]], precision: torch.dtype) -> torch.Tensor:
    """score(chosen) − score(rejected), shape (B,); both halves of the batch in one pass."""
    device = net.model.device
    inputs = to_tensors([chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs], device)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        scores = net.upper(net.lower(inputs), inputs["attention_mask"]).float()
    return scores[: len(pairs)] - scores[len(pairs) :]


def length_batches(pairs: Sequence[tuple[Encoded, Encoded]], size: int, rng: random.Random) -> list[list[int]]:
    """Indices of all pairs in batches of `size` of like length, in random order."""
    order = rng.sample(range(len(pairs)), len(pairs))
    batches = []
    for start in range(0, len(order), size * SORTED_BATCHES):
        chunk = sorted(order[start : start + size * SORTED_BATCHES], key=lambda i: _longest(pairs[i]))
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    rng.shuffle(batches)
    return batches


def _longest(pair: tuple[Encoded, Encoded]) -> int:
    return max(len(pair[0].ids), len(pair[1].ids))


@torch.inference_mode()
def score_rows(net: GoldNet, rows: Sequence[Encoded], say: Say, batch_rows: int = 64) -> list[float]:
    """Scores of `rows`, in order, in float32."""
    scores = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
    for n, start in enumerate(range(0, len(order), batch_rows)):
        batch = order[start : start + batch_rows]
        values = net.score(to_tensors([rows[i] for i in batch], net.model.device)).tolist()
        for index, value in zip(batch, values, strict=True):
            scores[index] = value
        if n % SAID_EVERY == SAID_EVERY - 1:
            say(f"scored {start + len(batch)} of {len(rows)} responses")
    return scores


class _Progress:
    """Says the mean loss and accuracy since the last line, and the time left."""

    def __init__(self, n_steps: int, say: Say) -> None:
        self._n_steps = n_steps
        self._say = say
        self._started = time.monotonic()
        self._recent: list[tuple[float, float]] = []
        self._done = 0

    def step(self, loss: float, accuracy: float) -> None:
        self._done += 1
        self._recent.append((loss, accuracy))
        if self._done % SAID_EVERY and self._done != self._n_steps:
            return
        mean_loss, mean_accuracy = (sum(column) / len(self._recent) for column in zip(*self._recent, strict=True))
        left_s = (time.monotonic() - self._started) / self._done * (self._n_steps - self._done)
        self._say(
            f"step {self._done}/{self._n_steps}  loss {mean_loss:.3f}  "
            f"training accuracy {mean_accuracy:.3f}  {left_s / 60:.1f} min left"
        )
        self._recent.clear()
