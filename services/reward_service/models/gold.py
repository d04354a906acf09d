"""Gold models: any Hugging Face sequence-classification reward model with one label.

The score is the raw logit. It equals the score that plain Transformers computes for the item alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from reward_service.batching import BatchLimits
from reward_service.models.cuda import CudaRunner, Inputs
from reward_service.models.gold_text import CPU_LIMITS, GoldText
from reward_service.models.padding import pad_right
from reward_service.models.protocols import Exchange, RawText, Tokens

CUDA_LIMITS = BatchLimits(max_tokens=16_384, max_items=256)
"""Bounds activation memory for any mix of lengths."""


class HfGoldModel:
    """A reward model with one label. `text` converts an exchange to the tokens that it reads."""

    def __init__(
        self,
        model: Any,
        text: GoldText,
        *,
        id: str,  # noqa: A002 - the Protocol's name
        revision: str,
        notices: tuple[str, ...] = (),
        encoder_base: str | None = None,
    ) -> None:
        """Wrap `model`, a Transformers `…ForSequenceClassification` in evaluation mode on its device."""
        self.id = id
        self.revision = revision
        self.device = str(model.device)
        self.backend = f"torch {str(model.dtype).removeprefix('torch.')}"
        self.limits = CUDA_LIMITS if model.device.type == "cuda" else CPU_LIMITS
        self.notices = notices
        self.encoder_base = encoder_base
        self._model = model
        self._text = text
        config = model.config.get_text_config()
        self._has_pad_id = config.pad_token_id is not None
        positions = getattr(config, "max_position_embeddings", None)
        self._needs_mask = not has_causal_attention(model)
        on_cuda = model.device.type == "cuda"
        self._cuda = CudaRunner(self.logits, model.device, positions, graphs=False) if on_cuda else None

    def tokenize(self, exchange: Exchange) -> Tokens:
        """Tokens of `exchange`. Raises ValueError, with the reason, when the model's format cannot express it."""
        return self._text(exchange)

    def tokenize_text(self, text: RawText) -> Tokens:
        """Tokens of `text`. Raises ValueError, with the reason, when the model cannot read it."""
        return self._text.raw(text)

    @torch.inference_mode()
    def score(self, batch: Sequence[Tokens]) -> list[float]:
        """One forward pass over right-padded rows (B, T); the logits as B floats."""
        pad_id = self._pad_id(batch)
        if self._cuda is not None:
            scores: list[float] = self._cuda(batch, pad_id).tolist()
            return scores
        inputs = pad_right(batch, pad_id)
        tensors = {name: torch.from_numpy(rows).to(self._model.device) for name, rows in inputs.items()}
        values: list[float] = self.logits(tensors).float().cpu().tolist()
        return values

    def logits(self, inputs: Inputs) -> torch.Tensor:
        """The forward pass: logits (B,) of rows (B, T)."""
        if self._cuda is not None and not self._needs_mask:
            inputs = {name: rows for name, rows in inputs.items() if name != "attention_mask"}
        logits: torch.Tensor = self._model(**inputs).logits[:, 0]
        return logits

    def _pad_id(self, batch: Sequence[Tokens]) -> int:
        """The model's pad token, or an id that no row of the batch uses when the model has no pad token.

        Decoder heads read the last token that is not the pad token. With a token that occurs in the text, such as
        the end token, they would skip a real token; plain Transformers does not do that with a single row.
        """
        config = self._model.config.get_text_config()
        if not self._has_pad_id:
            used = set().union(*(tokens.input_ids for tokens in batch))
            config.pad_token_id = next(i for i in range(config.vocab_size) if i not in used)
        pad_id: int = config.pad_token_id
        return pad_id


def has_causal_attention(model: Any) -> bool:
    """Whether no token attends to a later one. Then padding on the right has no effect, even without a mask."""
    causal = [module.is_causal for module in model.modules() if hasattr(module, "is_causal")]
    return bool(causal) and all(causal)
