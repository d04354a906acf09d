"""Padding of token rows to one length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reward_service.models.protocols import Tokens


def pad_right(batch: Sequence[Tokens], pad_id: int) -> dict[str, NDArray[np.int64]]:
    """Model inputs of shape (B, T) for `batch`, padded on the right."""
    shape = len(batch), max(map(len, batch))
    inputs = {"input_ids": np.full(shape, pad_id, np.int64), "attention_mask": np.zeros(shape, np.int64)}
    if any(tokens.token_type_ids is not None for tokens in batch):
        inputs["token_type_ids"] = np.zeros(shape, np.int64)
    for row, tokens in enumerate(batch):
        inputs["input_ids"][row, : len(tokens)] = tokens.input_ids
        inputs["attention_mask"][row, : len(tokens)] = 1
        if tokens.token_type_ids is not None:
            inputs["token_type_ids"][row, : len(tokens)] = tokens.token_type_ids
    return inputs
