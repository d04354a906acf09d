"""Bradley-Terry by maximum likelihood: P(chosen beats rejected) = sigmoid(score(chosen) − score(rejected)).

    shuffled pairs ──▶ batches of similar length ──▶ lower half's states ──▶ upper half ──▶ −log P ──▶ AdamW

R. A. Bradley, M. E. Terry, "Rank analysis of incomplete block designs", Biometrika 39 (1952).
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import get_linear_schedule_with_warmup

from reward_client.writing import writing
from reward_trainer.gold.model import GoldNet, score, trained_parameters
from reward_trainer.gold.states import Log, States, autocast
from reward_trainer.gold.text import Encoded, to_tensors

SORTED_BATCHES = 40
"""Number of batches whose pairs are sorted by length together: less padding, and different batches per epoch."""

LOG_EVERY = 20
"""Batches between two progress lines."""

CHECKPOINT_EVERY_S = 120
"""Seconds between two checkpoints."""

TOKENS_AT_ONCE = {"cpu": 4_096, "cuda": 65_536}
"""Tokens of a forward and backward pass: a batch with more is divided, with the same gradient, to bound memory."""

EncodedPair = tuple[Encoded, Encoded]


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit."""

    n_trained_layers: int = 2
    rank: int = 16
    """Of the LoRA matrices in the trained layers of a decoder."""
    epochs: int = 1
    batch_pairs: int = 16
    learning_rate: float = 2e-4
    """Peak, reached after a tenth of the steps; then a linear decrease to 0."""
    weight_decay: float = 0.01
    seed: int = 0
    precision: torch.dtype = torch.float32
    """Number format of the matrix products while fitting; stored weights and scores are float32."""


def fit(
    net: GoldNet,
    pairs: Sequence[EncodedPair],
    settings: FitSettings,
    states: States,
    log: Log,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> None:
    """Train `net` in place on (chosen, rejected) pairs.

    Args:
        net: the model.
        pairs: what it is trained on.
        settings: of the fit.
        states: returns the lower half's hidden states.
        log: takes lines of progress.
        checkpoint: file to continue from, if it exists, and to write regularly; for this fit only.
        checkpoint_every_s: seconds between two checkpoints.
    """
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    epochs = [length_batches(pairs, settings.batch_pairs, rng) for _ in range(settings.epochs)]
    steps = [batch for epoch in epochs for batch in epoch]
    parameters = trained_parameters(net)
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = get_linear_schedule_with_warmup(optimizer, max(1, len(steps) // 10), len(steps))
    saved = _Checkpoint(checkpoint, checkpoint_every_s, parameters, optimizer, schedule)
    done = saved.restore()
    progress = _Progress(len(steps), done, log)
    for step, batch in enumerate(steps[done:], done + 1):
        optimizer.zero_grad()
        progress.step(*_backward(net, [pairs[i] for i in batch], states, settings.precision))
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        schedule.step()
        saved.write(step, last=step == len(steps))


def _backward(
    net: GoldNet, batch: Sequence[EncodedPair], states: States, precision: torch.dtype
) -> tuple[float, float]:
    """Add the gradient of the batch's mean loss; return that loss and the share of pairs ranked right."""
    loss, right = 0.0, 0.0
    for part in _parts(batch, TOKENS_AT_ONCE.get(net.model.device.type, TOKENS_AT_ONCE["cpu"])):
        margin = _margin(net, part, states, precision)
        part_loss = -logsigmoid(margin).sum() / len(batch)
        part_loss.backward()  # type: ignore[no-untyped-call]
        loss += part_loss.item()
        right += (margin > 0).sum().item() / len(batch)
    return loss, right


def _parts(batch: Sequence[EncodedPair], max_tokens: int) -> Iterator[Sequence[EncodedPair]]:
    """Divide a batch so that each part has at most `max_tokens` with padding, or one pair."""
    longest = max(len(side.ids) for pair in batch for side in pair)
    size = max(1, max_tokens // (2 * longest))
    for start in range(0, len(batch), size):
        yield batch[start : start + size]


def _margin(net: GoldNet, pairs: Sequence[EncodedPair], states: States, precision: torch.dtype) -> torch.Tensor:
    """Return score(chosen) − score(rejected), shape (B,), in one forward pass."""
    rows = [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]
    hidden, mask = states(rows), to_tensors(rows, net.model.device)["attention_mask"]
    with autocast(net, precision):
        scores = net.upper(hidden, mask).float()
    return scores[: len(pairs)] - scores[len(pairs) :]


def length_batches(pairs: Sequence[EncodedPair], size: int, rng: random.Random) -> list[list[int]]:
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
def score_rows(net: GoldNet, rows: Sequence[Encoded], log: Log, batch_rows: int = 16) -> list[float]:
    """Return the scores of `rows`, in order, in float32; equal rows are scored once."""
    scores: dict[tuple[tuple[int, ...], int], float] = {}
    unique = sorted({row.key: row for row in rows}.values(), key=lambda row: -len(row.ids))
    for n, start in enumerate(range(0, len(unique), batch_rows), 1):
        batch = unique[start : start + batch_rows]
        values = score(net, to_tensors(batch, net.model.device)).tolist()
        scores |= zip((row.key for row in batch), values, strict=True)
        if n % LOG_EVERY == 0:
            log(f"scored {start + len(batch)} of {len(unique)} responses")
    return [scores[row.key] for row in rows]


class _Checkpoint:
    """Parameters, optimizer and schedule after a step, in a file that is replaced atomically."""

    def __init__(
        self, path: Path | None, every_s: float, parameters: dict[str, Any], optimizer: Any, schedule: Any
    ) -> None:
        self._path, self._every_s, self._parameters = path, every_s, parameters
        self._stateful = {"optimizer": optimizer, "schedule": schedule}
        self._written = time.monotonic()

    @torch.no_grad()
    def restore(self) -> int:
        """Return the number of completed steps, after restoring what they left."""
        if self._path is None or not self._path.is_file():
            return 0
        saved = torch.load(self._path, map_location="cpu", weights_only=True)
        for name, parameter in self._parameters.items():
            parameter.copy_(saved["parameters"][name])
        for name, stateful in self._stateful.items():
            stateful.load_state_dict(saved[name])
        return int(saved["step"])

    def write(self, step: int, *, last: bool) -> None:
        """Write the checkpoint if its time has come."""
        if self._path is None or not (last or time.monotonic() - self._written > self._every_s):
            return
        content = {name: stateful.state_dict() for name, stateful in self._stateful.items()}
        content |= {"step": step, "parameters": {name: p.detach() for name, p in self._parameters.items()}}
        temporary = self._path.with_suffix(".tmp")
        with writing(self._path):
            with temporary.open("wb") as file:  # of a path, `torch.save` reports a full disk as a RuntimeError
                torch.save(content, file)
            temporary.replace(self._path)
        self._written = time.monotonic()


class _Progress:
    """Logs the mean loss and accuracy since the last line, and the remaining time."""

    def __init__(self, n_steps: int, done: int, log: Log) -> None:
        self._n_steps, self._first, self._done = n_steps, done, done
        self._log = log
        self._started = time.monotonic()
        self._recent: list[tuple[float, float]] = []
        if done:
            log(f"continued after step {done} of {n_steps}")

    def step(self, loss: float, accuracy: float) -> None:
        self._done += 1
        self._recent.append((loss, accuracy))
        if self._done % LOG_EVERY and self._done != self._n_steps:
            return
        mean_loss, mean_accuracy = (sum(column) / len(self._recent) for column in zip(*self._recent, strict=True))
        seconds = (time.monotonic() - self._started) / (self._done - self._first) * (self._n_steps - self._done)
        self._log(
            f"step {self._done}/{self._n_steps}  loss {mean_loss:.3f}  "
            f"training accuracy {mean_accuracy:.3f}  {seconds / 60:.1f} min left"
        )
        self._recent.clear()
