"""Weight broadcast over gloo, as vLLM's StatelessProcessGroup and PyNcclCommunicator do it over NCCL."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import distributed

dist: Any = distributed  # its type information lacks stores and groups


class GlooGroup:
    """A process group of one trainer rank and the engines, separate from torch's default group."""

    def __init__(self, group: Any) -> None:
        self._group = group

    @classmethod
    def create(cls, host: str, port: int, rank: int, world_size: int) -> Self:
        """Connect to the group at `host:port`; rank 0 hosts the store."""
        store = dist.TCPStore(host, port, world_size, is_master=rank == 0)
        return cls(dist.ProcessGroupGloo(dist.PrefixStore("weights", store), rank, world_size))

    def broadcast(self, tensor: torch.Tensor, src: int, stream: None = None) -> None:
        """Send `tensor` from rank `src`, or receive it there, and wait for it."""
        options = dist.BroadcastOptions()
        options.rootRank = src
        options.rootTensor = 0
        self._group.broadcast([tensor], options).wait()
