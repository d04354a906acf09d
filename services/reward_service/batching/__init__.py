"""Batching across requests.

worker         one model: loading, admission, restarts
queue          which units form the next batch
batch_runner   runs batches, distributes results
executor       where a model's calls run
"""

from reward_service.batching.executor import Executor
from reward_service.batching.metrics_hook import BatchStats, MetricsHook
from reward_service.batching.queue import BatchLimits, BatchQueue, Entry, Submission, Unit
from reward_service.batching.worker import ModelWorker, Reservation

__all__ = [
    "BatchLimits",
    "BatchQueue",
    "BatchStats",
    "Entry",
    "Executor",
    "MetricsHook",
    "ModelWorker",
    "Reservation",
    "Submission",
    "Unit",
]
