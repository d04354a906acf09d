"""Which processes run on which devices: training ranks and rollout engines.

one node, synchronous      on every GPU a training rank and an engine, in turn (OpenRLHF's hybrid engine)
asynchronous               some GPUs of a node for training ranks, the others for engines, at the same time
several nodes              the same on each node of a Ray cluster, with as many GPUs each as this machine
"""

from dataclasses import dataclass
from typing import Self

from reward_trainer.config import Config
from reward_trainer.hardware import Hardware


@dataclass(frozen=True)
class Layout:
    """Processes of a run."""

    n_nodes: int
    ranks_per_node: int
    n_engines: int
    shared_devices: bool
    """Whether each training rank shares its device with an engine."""

    @classmethod
    def of(cls, config: Config, hardware: Hardware) -> Self:
        """The layout of a run. Without a GPU, Ray is told that there is one device for each rank or engine."""
        devices = max(hardware.n_gpus, 1)
        if not config.asynchronous:
            return cls(config.nodes, devices, config.nodes * devices, shared_devices=True)
        engines = max(devices // 2, 1)
        ranks = max(devices - engines, 1)
        return cls(config.nodes, ranks, config.nodes * engines, shared_devices=False)

    @property
    def n_ranks(self) -> int:
        """Training ranks of all nodes."""
        return self.n_nodes * self.ranks_per_node

    @property
    def n_devices(self) -> int:
        """GPUs of all nodes that the run needs."""
        return self.n_ranks if self.shared_devices else self.n_ranks + self.n_engines
