"""What a relevance encoder is made of: the result of its loaders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from reward_service.models.protocols import Embeddings, Tokens

Backend = Literal["auto", "openvino", "torch"]
Precision = Literal["fp32", "bf16", "fp16"]

MAX_TOKENS = 512
"""Maximum tokens of a text, special tokens included. Longer texts lose their start, because answers end late. A
model with fewer positions reads fewer."""


class Forward(Protocol):
    """One forward pass over a batch."""

    name: str
    """Library and number format."""

    def __call__(self, batch: Sequence[Tokens], pad_id: int) -> Embeddings:
        """Vectors (B, D) of the rows."""
        ...


@dataclass(frozen=True)
class EncoderParts:
    """A tokenizer, of Transformers or with its names, and the forward pass for its tokens."""

    tokenizer: Any
    forward: Forward
    revision: str
    """Content hash of the weights, 12 hex digits."""
    max_tokens: int


def weights_revision(weights: Iterable[tuple[str, NDArray[Any]]]) -> str:
    """Content hash of weights in the order of their names, 12 hex digits, independent of where they came from."""
    digest = hashlib.sha256()
    for name, values in weights:
        digest.update(f"0.model.{name}".encode())  # its name in the pipeline of earlier releases
        digest.update(values.tobytes())
    return digest.hexdigest()[:12]
