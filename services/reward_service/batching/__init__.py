"""Batches across requests: `queue` decides, `worker` acts, `thread` is where a model lives.

submit(units) ──▶ queue ──▶ batch ──▶ the model's thread ──▶ outcomes ──▶ each caller
"""

from reward_service.batching.queue import BatchLimits, BatchQueue, Entry, Ticket, Unit
from reward_service.batching.worker import BatchFacts, BatchObserver, Done, ModelWorker

__all__ = [
    "BatchFacts",
    "BatchLimits",
    "BatchObserver",
    "BatchQueue",
    "Done",
    "Entry",
    "ModelWorker",
    "Ticket",
    "Unit",
]
