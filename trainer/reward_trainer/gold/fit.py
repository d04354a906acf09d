"""Bradley-Terry by maximum likelihood: P(chosen beats rejected) = sigmoid(score(chosen) − score(rejected)).

    shuffled pairs ──▶ batches of similar length ──▶ lower half (once) ──▶ upper half ──▶ −log P ──▶ AdamW

R. A. Bradley, M. E. Terry, "Rank analysis of incomplete block designs", Biometrika 39 (1952).
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid
from transformers import get_linear_schedule_with_warmup

from reward_trainer.gold.model import GoldNet
from reward_trainer.gold.text import Encoded, to_tensors

Log = Callable[[str], None]

SORTED_BATCHES = 40
"""Number of batches whose pairs are sorted by length together: less padding, and different batches per epoch."""

LOG_EVERY = 20
"""Batches between two progress lines."""


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit."""

    n_trained_layers: int = 2
    epochs: int = 1
    batch_pairs: int = 16
    learning_rate: float = 2e-4
    """Peak, reached after a tenth of the steps; then a linear decrease to 0."""
    weight_decay: float = 0.01
    seed: int = 0
    precision: torch.dtype = torch.float32
    """Number format of the matrix products while fitting; stored weights and scores are float32."""


def fit(net: GoldNet, pairs: Sequence[tuple[Encoded, Encoded]], settings: FitSettings, log: Log) -> None:
    """Train `net` in place on (chosen, rejected) pairs."""
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    epochs = [length_batches(pairs, settings.batch_pairs, rng) for _ in range(settings.epochs)]
    steps = [batch for epoch in epochs for batch in epoch]
    optimizer = torch.optim.AdamW(
        net.trained_parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = get_linear_schedule_with_warmup(optimizer, max(1, len(steps) // 10), len(steps))
    progress = _Progress(len(steps), log)
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
    """Return score(chosen) − score(rejected), shape (B,), in one forward pass."""
    device = net.model.device
    inputs = to_tensors([chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs], device)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        scores = net.upper(net.lower(inputs), inputs["attention_mask"]).float()
    return scores[: len(pairs)] - scores[len(pairs) :]


def length_batches(pairs: Sequence[tuple[Encoded, Encoded]], size: int, rng: random.Random) -> list[list[int]]:
    """Return the indices of all pairs in batches of `size` of similar length, in random order."""
    order = rng.sample(range(len(pairs)), len(pairs))
    batches = []
    for start in range(0, len(order), size * SORTED_BATCHES):
        chunk = sorted(
            order[start : start + size * SORTED_BATCHES], key=lambda i: max(len(side.ids) for side in pairs[i])
        )
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    rng.shuffle(batches)
    return batches


@torch.inference_mode()
def score_rows(net: GoldNet, rows: Sequence[Encoded], log: Log, batch_rows: int = 64) -> list[float]:
    """Return the scores of `rows`, in order, in float32."""
    scores = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
    for n, start in enumerate(range(0, len(order), batch_rows)):
        batch = order[start : start + batch_rows]
        values = net.score(to_tensors([rows[i] for i in batch], net.model.device)).tolist()
        for index, value in zip(batch, values, strict=True):
            scores[index] = value
        if n % LOG_EVERY == LOG_EVERY - 1:
            log(f"scored {start + len(batch)} of {len(rows)} responses")
    return scores


class _Progress:
    """Logs the mean loss and accuracy since the last line, and the remaining time."""

    def __init__(self, n_steps: int, log: Log) -> None:
        self._n_steps = n_steps
        self._log = log
        self._started = time.monotonic()
        self._recent: list[tuple[float, float]] = []
        self._done = 0

    def step(self, loss: float, accuracy: float) -> None:
        self._done += 1
        self._recent.append((loss, accuracy))
        if self._done % LOG_EVERY and self._done != self._n_steps:
            return
        mean_loss, mean_accuracy = (sum(column) / len(self._recent) for column in zip(*self._recent, strict=True))
        remaining_s = (time.monotonic() - self._started) / self._done * (self._n_steps - self._done)
        self._log(
            f"step {self._done}/{self._n_steps}  loss {mean_loss:.3f}  "
            f"training accuracy {mean_accuracy:.3f}  {remaining_s / 60:.1f} min left"
        )
        self._recent.clear()
