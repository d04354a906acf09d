"""A lower bound for the time of a transformer in fp32: its matrix products in torch, and nothing else.

Each linear layer multiplies (tokens, in) by (in, out) without padding, in chunks of the size that is fastest on
this machine. Attention, norms, activations, tokenizing and HTTP are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.measure import seconds

__all__ = ["matrix_products"]

CHUNKS = (256, 512, 1024, 2048, 4096)
"""Tokens of one product."""


def matrix_products(model: torch.nn.Module, n_tokens: int) -> tuple[Callable[[], None], str]:
    """The matrix products of a forward pass over `n_tokens`, to be timed, and their description."""
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    weights = [layer.weight.detach().T.contiguous() for layer in layers]
    inputs = {rows: torch.randn(max(CHUNKS), rows) for rows in {weight.shape[0] for weight in weights}}

    def multiply(chunk: int, n: int) -> None:
        for start in range(0, n, chunk):
            size = min(chunk, n - start)
            for weight in weights:
                torch.mm(inputs[weight.shape[0]][:size], weight)

    best = min(CHUNKS, key=lambda chunk: min(seconds(lambda: multiply(chunk, max(CHUNKS))) for _ in range(2)))
    flops = 2 * n_tokens * sum(weight.numel() for weight in weights)
    description = f"{len(weights)} layers, {n_tokens} tokens, {flops / 1e12:.2f} TFLOP in chunks of {best} tokens"
    return lambda: multiply(best, n_tokens), description
