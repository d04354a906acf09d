"""What a transformer cannot do without, in fp32, by torch: its matrix products and nothing else.

Each of its linear layers multiplies (tokens, in) by (in, out), without any padding, in the pieces that were
fastest here. Attention, norms, activations, tokenizing and HTTP cost nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.measure import seconds

__all__ = ["matrix_products"]

PIECES = (256, 512, 1024, 2048, 4096)
"""Tokens of one product."""


def matrix_products(model: torch.nn.Module, n_tokens: int) -> tuple[Callable[[], None], str]:
    """The products that a pass over `n_tokens` cannot do without, to be timed; and what they are, in words."""
    blocks = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    weights = [layer.weight.detach().T.contiguous() for layer in blocks]
    inputs = {rows: torch.randn(max(PIECES), rows) for rows in {weight.shape[0] for weight in weights}}

    def multiply(piece: int, n: int) -> None:
        for start in range(0, n, piece):
            size = min(piece, n - start)
            for weight in weights:
                torch.mm(inputs[weight.shape[0]][:size], weight)

    best = min(PIECES, key=lambda piece: min(seconds(lambda: multiply(piece, max(PIECES))) for _ in range(2)))
    flops = 2 * n_tokens * sum(weight.numel() for weight in weights)
    said = f"{len(weights)} layers, {n_tokens} tokens, {flops / 1e12:.2f} TFLOP in pieces of {best} tokens"
    return lambda: multiply(best, n_tokens), said
