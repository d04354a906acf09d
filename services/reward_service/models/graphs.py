"""CUDA graphs for small batches: one launch a pass. Launching a hundred kernels one by one takes longer than the
kernels themselves.

Graphs have fixed shapes. A batch uses the smallest shape that is large enough, filled with rows of one padding
token; larger batches are launched kernel by kernel. All graphs are recorded when the model is loaded,
in one memory pool, because they never run at the same time.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

ROWS = (1, 4, 16, 64)
WIDTHS = (16, 32, 64, 128, 256, 512)
MAX_TOKENS = 4096
"""Maximum rows × width of a graph; in larger batches the kernels take longer than their launch."""

logger = logging.getLogger(__name__)

Pass = Callable[[torch.Tensor], torch.Tensor]
"""Values (B, …) of a table (P, B, T + 1) on the GPU."""


@dataclass(frozen=True)
class Graph:
    """A recorded pass."""

    graph: torch.cuda.CUDAGraph
    table: torch.Tensor
    """Its input: a table (1, B, T + 1)."""
    values: torch.Tensor
    """Its output."""

    def replay(self, table: torch.Tensor) -> torch.Tensor:
        """The values of `table`, which is pinned and has the graph's shape; valid until the next replay."""
        self.table.copy_(table, non_blocking=True)
        self.graph.replay()
        return self.values


class Graphs:
    """The graphs of one model; empty when its passes cannot be recorded."""

    def __init__(self, run: Pass, device: torch.device, stream: torch.cuda.Stream, max_tokens: int | None) -> None:
        """Record `run`, in `stream`, for every shape within the model's maximum length."""
        self._graphs: dict[tuple[int, int], Graph] = {}
        pool = torch.cuda.graph_pool_handle()
        shapes = [shape for shape in _shapes() if max_tokens is None or shape[1] <= max_tokens]
        try:
            with torch.inference_mode(), torch.cuda.device(device), torch.cuda.stream(stream):
                for shape in reversed(shapes):  # the largest first, so that the others reuse its memory
                    self._graphs[shape] = _record(run, shape, device, pool)
        except RuntimeError as exc:
            self._graphs.clear()
            logger.warning("this model's passes cannot be recorded, so small batches are slower: %s", exc)

    def graph_for(self, rows: int, longest: int) -> tuple[Graph, tuple[int, int]] | None:
        """The graph for `rows` rows of up to `longest` tokens and its shape; None if the batch is too large."""
        shape = smallest_shape(rows, longest)
        graph = self._graphs.get(shape) if shape else None
        return (graph, shape) if graph and shape else None


def smallest_shape(rows: int, longest: int) -> tuple[int, int] | None:
    """The smallest shape of a graph for this batch; None if the batch is too large."""
    held = next((n for n in ROWS if n >= rows), None)
    width = next((n for n in WIDTHS if n >= longest), None)
    return None if held is None or width is None or held * width > MAX_TOKENS else (held, width)


def _shapes() -> list[tuple[int, int]]:
    return sorted((n for r in ROWS for w in WIDTHS if (n := smallest_shape(r, w))), key=lambda n: n[0] * n[1])


def _record(run: Pass, shape: tuple[int, int], device: torch.device, pool: Any) -> Graph:
    rows, width = shape
    table = torch.zeros((1, rows, width + 1), dtype=torch.int32, device=device)
    table[:, :, width] = 1
    for _ in range(2):  # initialisation on first use must not become part of the graph
        run(table)
    torch.cuda.current_stream(device).synchronize()
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")  # other threads run other models
    try:
        values = run(table)
    except BaseException:
        with contextlib.suppress(RuntimeError):
            graph.capture_end()
        raise
    graph.capture_end()
    return Graph(graph, table, values)
