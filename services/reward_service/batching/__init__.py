"""Batches across requests: `queue` decides, `worker` acts, `thread` is where a model lives.

admit(units) ──▶ queue ──▶ batch ──▶ the model's thread ──▶ outcomes ──▶ each submission
"""

from reward_service.batching.metrics_hook import BatchStats, MetricsHook
from reward_service.batching.queue import BatchLimits, BatchQueue, Entry, Ticket, Unit
from reward_service.batching.submission import Done, Submission
from reward_service.batching.worker import ModelWorker

__all__ = [
    "BatchLimits",
    "BatchQueue",
    "BatchStats",
    "Done",
    "Entry",
    "MetricsHook",
    "ModelWorker",
    "Submission",
    "Ticket",
    "Unit",
]
