"""Batching across requests.

worker         one model: loading, admission, restarts
queue          which units form the next batch
batch_runner   runs batches, distributes results
executor       where a model's calls run
step_executor  where CPU-bound jobs run, in small steps
"""

from reward_service.batching.executor import Executor, ThreadExecutor
from reward_service.batching.metrics_hook import BatchStats, MetricsHook
from reward_service.batching.queue import BatchLimits, BatchQueue, Entry, Submission, Unit
from reward_service.batching.step_executor import StepExecutor, Steps, complete
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
    "StepExecutor",
    "Steps",
    "Submission",
    "ThreadExecutor",
    "Unit",
    "complete",
]
