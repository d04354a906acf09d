"""Batching across requests.

worker             one model: loading, admission, restarts
queue              entries and submissions
callers            whose entries form the next batch, and what each caller has waiting
batch_runner       runs batches, distributes results
executors          the thread of a model
concurrent_runner  runs several batches at a time, of a model behind a server
step_executor      where CPU-bound jobs run, in small steps
"""

from reward_service.batching.batch_runner import BatchStats, MetricsHook, Run
from reward_service.batching.callers import BatchLimits
from reward_service.batching.concurrent_runner import ConcurrentRunner, TaskExecutor
from reward_service.batching.executors import Executor, ThreadExecutor
from reward_service.batching.queue import BatchQueue, Entry, Submission, Unit
from reward_service.batching.reservations import Reservation
from reward_service.batching.step_executor import StepExecutor, Steps, complete
from reward_service.batching.worker import ModelWorker

__all__ = [
    "BatchLimits",
    "BatchQueue",
    "BatchStats",
    "ConcurrentRunner",
    "Entry",
    "Executor",
    "MetricsHook",
    "ModelWorker",
    "Reservation",
    "Run",
    "StepExecutor",
    "Steps",
    "Submission",
    "TaskExecutor",
    "ThreadExecutor",
    "Unit",
    "complete",
]
