"""How many tokens of a text a model has positions for."""

from __future__ import annotations

from typing import Any

import torch

_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
"""Names of the table of learned positions in models of Transformers."""


def max_positions(model: Any) -> int | None:
    """The tokens that `model` has positions for; None if it names no maximum.

    RoBERTa and its relatives count positions from behind the padding token's, OPT from an offset.
    """
    tables = [
        module
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in _TABLES and isinstance(module, torch.nn.Embedding)
    ]
    if tables:
        return min(table.num_embeddings - _first_position(table) for table in tables)
    configured = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(configured) if configured else None


def _first_position(table: torch.nn.Embedding) -> int:
    """Position of a text's first token."""
    return table.padding_idx + 1 if table.padding_idx is not None else int(getattr(table, "offset", 0))
