"""Batching across requests.

worker         one model: loading, admission, restarts
queue          which units form the next batch
batch_runner   runs batches, distributes results
executor       where a model's calls run
step_executor  where CPU-bound jobs run, in small steps
submission     the units of one caller
"""

from reward_service.batching.executor import Executor, ThreadExecutor
from reward_service.batching.metrics_hook import BatchStats, MetricsHook, QueueSize
from reward_service.batching.queue import BatchLimits, BatchQueue, Entry, Ticket, Unit
from reward_service.batching.step_executor import StepExecutor, Steps, complete
from reward_service.batching.submission import Done, Submission
from reward_service.batching.worker import ModelWorker, Reservation

__all__ = [
    "BatchLimits",
    "BatchQueue",
    "BatchStats",
    "Done",
    "Entry",
    "Executor",
    "MetricsHook",
    "ModelWorker",
    "QueueSize",
    "Reservation",
    "StepExecutor",
    "Steps",
    "Submission",
    "ThreadExecutor",
    "Ticket",
    "Unit",
    "complete",
]
