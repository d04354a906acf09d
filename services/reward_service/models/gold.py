"""The gold model: any Hugging Face sequence-classification reward model behind one Protocol.

    exchanges ──text──▶ tokens ──sorted by length──▶ padded batches ──model──▶ one logit each, order restored

The score is the raw logit of a head with one label, equal to what plain Transformers computes, alone and in a
batch. A number that is not finite is an error that names its exchange, never a score.

    ModelError
    └── GoldScoreError           has the reasons, by the exchange's index
        ├── NonFiniteScoreError      the model answered NaN or infinity
        └── UnreadableExchangeError  the model's chat template refuses the conversation
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from reward_service.errors import ModelError
from reward_service.models.base import Exchange, GoldModel
from reward_service.models.gold_text import GoldText, Tokens

__all__ = [
    "GoldScoreError",
    "HfGoldModel",
    "NonFiniteScoreError",
    "UnreadableExchangeError",
    "shared_base_notice",
]

DEFAULT_BATCH_TOKENS = 16_384
"""Padded tokens in one forward pass (longest × count): bounds activation memory, whatever the mix of lengths."""


class GoldScoreError(ModelError):
    """Some exchanges have no gold score; `reasons` says why, by their index in the call."""

    def __init__(self, detail: str, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{detail}: " + "; ".join(f"exchange {i}: {why}" for i, why in reasons.items()))
        self.reasons = dict(reasons)


class NonFiniteScoreError(GoldScoreError):
    """The model answered NaN or infinity: its weights, or the number format they run in, are at fault."""


class UnreadableExchangeError(GoldScoreError):
    """The model's chat template refuses a conversation, for instance because it knows no system turn."""


class HfGoldModel:
    """A reward model with one label; `text` decides what it reads. Owned by one thread."""

    def __init__(
        self,
        model: Any,
        text: GoldText,
        *,
        id: str,  # noqa: A002 - the Protocol's name
        revision: str,
        notices: tuple[str, ...] = (),
        encoder_base: str | None = None,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
    ) -> None:
        """Wrap `model`, a Transformers `…ForSequenceClassification` in evaluation mode on its device."""
        self.id = id
        self.revision = revision
        self.device = str(model.device)
        self.notices = notices
        self.encoder_base = encoder_base
        self._model = model
        self._text = text
        self._batch_tokens = batch_tokens
        self._has_pad_id = model.config.get_text_config().pad_token_id is not None

    def score(self, exchanges: Sequence[Exchange]) -> list[float]:
        """Score `exchanges`, in order; each as it would score alone, to float rounding.

        Raises:
            UnreadableExchangeError: nothing was scored; names every exchange that cannot be read.
            NonFiniteScoreError: names every exchange without a finite score.
        """
        tokens = self._read(exchanges)
        scores = [math.nan] * len(tokens)
        for batch in length_batches([len(t.input_ids) for t in tokens], self._batch_tokens):
            for index, value in zip(batch, self._forward([tokens[i] for i in batch]), strict=True):
                scores[index] = value
        reasons = {i: f"score {value}" for i, value in enumerate(scores) if not math.isfinite(value)}
        if reasons:
            raise NonFiniteScoreError(f"the gold model {self.id} gave numbers that are none", reasons)
        return scores

    def _read(self, exchanges: Sequence[Exchange]) -> list[Tokens]:
        tokens: list[Tokens] = []
        reasons: dict[int, str] = {}
        for index, exchange in enumerate(exchanges):
            try:
                tokens.append(self._text(exchange))
            except ValueError as exc:
                reasons[index] = str(exc)
        if reasons:
            raise UnreadableExchangeError(f"the gold model {self.id} cannot read what it was given", reasons)
        return tokens

    @torch.inference_mode()
    def _forward(self, batch: Sequence[Tokens]) -> list[float]:
        """One forward pass over right-padded rows (B, T); the logits as B floats."""
        inputs = pad_right(batch, self._pad_id(batch))
        logits = self._model(**{name: tensor.to(self._model.device) for name, tensor in inputs.items()}).logits
        values: list[float] = logits[:, 0].float().cpu().tolist()
        return values

    def _pad_id(self, batch: Sequence[Tokens]) -> int:
        """The model's own pad token, or for a model without one an id that no row of the batch uses.

        Decoder heads read the last token that is not the pad token. A borrowed one (the end token, say) would
        make them skip a real token at the end, which plain Transformers does not do with a single row.
        """
        config = self._model.config.get_text_config()
        if not self._has_pad_id:
            used = set().union(*(tokens.input_ids for tokens in batch))
            config.pad_token_id = next(i for i in range(config.vocab_size) if i not in used)
        pad_id: int = config.pad_token_id
        return pad_id


def length_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices of `lengths` in batches, longest first, each of at most `max_tokens` padded tokens (or one row)."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pad_right(batch: Sequence[Tokens], pad_id: int) -> dict[str, torch.Tensor]:
    """Model inputs (B, T) of `batch`, padded on the right as classification heads expect."""
    width = max(len(tokens.input_ids) for tokens in batch)

    def padded(rows: Sequence[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([row + [fill] * (width - len(row)) for row in rows], dtype=torch.long)

    inputs = {
        "input_ids": padded([t.input_ids for t in batch], pad_id),
        "attention_mask": padded([[1] * len(t.input_ids) for t in batch], 0),
    }
    types = [t.token_type_ids for t in batch if t.token_type_ids is not None]
    if types:
        inputs["token_type_ids"] = padded(types, 0)
    return inputs


def shared_base_notice(gold: GoldModel, encoder_id: str) -> str | None:
    """What readers must know when the gold model was fitted on the relevance encoder's own weights, else None.

    Ids are compared by their last part, so that a hub id and the embedded package of the same model are one.
    """
    if gold.encoder_base is None or _last_part(gold.encoder_base) != _last_part(encoder_id):
        return None
    return (
        f"the gold model {gold.id} is fitted on {gold.encoder_base}, which is also the relevance encoder: "
        "where the two agree, that is no independent evidence"
    )


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold()
