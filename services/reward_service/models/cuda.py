"""One batch on a GPU: copy to the device, forward pass, copy to the host, one synchronisation.

    tokens ──▶ pinned table (P, B, T + 1) ──▶ ids, mask, token types ──▶ forward ──▶ pinned values ──▶ numpy

The table has one plane for the token ids and, for models of text pairs, one for the token types, 4 bytes a number.
Its last column has the length of each row, from which the GPU computes the mask. Rows of unequal length are padded
to a multiple of 16 tokens: tensor cores need multiples of 8, and with few shapes the allocator reuses its blocks.
Rows of equal length are not padded, so a single text gives the same result as plain Transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from reward_service.models.graphs import Graphs
from reward_service.models.protocols import Tokens

Inputs = dict[str, torch.Tensor]
"""Inputs of a Transformers model, each (B, T)."""

STEP = 16
"""Widths of a batch are multiples of this many tokens."""


class CudaRunner:
    """Runs a model's passes on one GPU, in a separate stream, so that two models on it do not block each other."""

    def __init__(
        self,
        forward: Callable[[Inputs], torch.Tensor],
        device: torch.device,
        max_tokens: int | None,
        *,
        graphs: bool,
    ) -> None:
        """Run `forward`, which maps rows (B, T) to values (B, …).

        `max_tokens` is the model's maximum length, or None; rows are not padded beyond it. With `graphs`, small
        batches of one plane are replayed as CUDA graphs, which are recorded now.
        """
        torch.backends.cuda.enable_cudnn_sdp(False)  # its plan for each new shape takes 300 ms
        self._forward = forward
        self._device = device
        self._max_tokens = max_tokens
        torch.cuda.current_stream(device).synchronize()  # the weights were copied in that stream
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graphs = Graphs(self._run, device, self._stream, max_tokens) if graphs else None
        self._out_of_memory = False

    def __call__(self, batch: Sequence[Tokens], pad_id: int) -> NDArray[np.float32]:
        """The values of `batch`, in fp32, on the host."""
        if self._out_of_memory:  # the tensors of the failed pass are unreferenced by now
            torch.cuda.empty_cache()
            self._out_of_memory = False
        try:
            with torch.inference_mode(), torch.cuda.device(self._device), torch.cuda.stream(self._stream):
                values = self._values(batch, pad_id)
                host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
                host.copy_(values, non_blocking=True)
                self._stream.synchronize()
        except torch.OutOfMemoryError:
            self._out_of_memory = True
            raise
        return host.numpy().copy()  # callers may cache rows, and pinned memory is scarce

    def _values(self, batch: Sequence[Tokens], pad_id: int) -> torch.Tensor:
        found = self._graphs.graph_for(len(batch), max(map(len, batch))) if self._graphs else None
        if found is not None:
            graph, shape = found
            return graph.replay(pack(batch, pad_id, shape=shape, pinned=True))[: len(batch)]
        table = pack(batch, pad_id, shape=shape_of(batch, self._max_tokens), pinned=True)
        return self._run(table.to(self._device, non_blocking=True))

    def _run(self, table: torch.Tensor) -> torch.Tensor:
        return self._forward(unpack(table)).float()


def shape_of(batch: Sequence[Tokens], max_tokens: int | None = None) -> tuple[int, int]:
    """Rows and width of a batch's table: the width is a multiple of 16, or the common length of all rows."""
    lengths = [len(tokens) for tokens in batch]
    longest = max(lengths)
    if longest == min(lengths):
        return len(batch), longest
    width = -(-longest // STEP) * STEP
    return len(batch), width if max_tokens is None else max(longest, min(width, max_tokens))


def pack(
    batch: Sequence[Tokens], pad_id: int, *, shape: tuple[int, int] | None = None, pinned: bool = False
) -> torch.Tensor:
    """The rows of `batch`, padded on the right, as one int32 table (P, B, T + 1).

    `shape` is (B, T); additional rows consist of one padding token.
    """
    rows, width = shape or shape_of(batch)
    planes = 2 if any(tokens.token_type_ids is not None for tokens in batch) else 1
    table = torch.empty((planes, rows, width + 1), dtype=torch.int32, pin_memory=pinned)
    numbers = table.numpy()
    numbers[0] = pad_id
    numbers[1:] = 0
    numbers[0, :, width] = 1
    for row, tokens in enumerate(batch):
        length = len(tokens)
        numbers[0, row, :length] = tokens.input_ids
        numbers[0, row, width] = length
        if tokens.token_type_ids is not None:
            numbers[1, row, :length] = tokens.token_type_ids
    return table


def unpack(table: torch.Tensor) -> Inputs:
    """Model inputs, each (B, T) int64, of a table (P, B, T + 1), on its device."""
    width = table.shape[-1] - 1
    lengths = table[0, :, width:]  # (B, 1)
    inputs = {
        "input_ids": table[0, :, :width].long(),
        "attention_mask": (torch.arange(width, device=table.device) < lengths).long(),
    }
    if len(table) > 1:
        inputs["token_type_ids"] = table[1, :, :width].long()
    return inputs
