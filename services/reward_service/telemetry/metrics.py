"""Prometheus metrics of one application: one registry, which `GET /metrics` exposes.

Labels are routes (as patterns), protocols, recipes, models and causes. They have few values, and never have text
from a request, except names of runs, whose number is limited (`run_metrics.py`). A registry belongs to one
application, so that tests and replicas do not share counters.
"""

from collections import Counter as Tally
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from reward_client.wire import ScoreReply
from reward_service.batching import BatchQueue, BatchStats
from reward_service.telemetry.run_metrics import UNKNOWN_RECIPE, RunMetrics

EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of Prometheus' text format."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 150)
_HELD_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 100, 150)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_REWARDS = (-1, 0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)


class Metrics:
    """Counters, gauges and histograms of requests, admission, batches and results.

    `max_runs` is the number of pairs of a training run and a recipe that are counted under their names.
    """

    def __init__(self, max_runs: int = 30) -> None:
        self._registry = CollectorRegistry()
        self._runs = RunMetrics(max_runs)
        self._registry.register(self._runs)
        self._define_requests()
        self._define_admission()
        self._define_models()

    def _define_requests(self) -> None:
        counter, histogram = partial(Counter, registry=self._registry), partial(Histogram, registry=self._registry)
        requests = counter("glassbox_requests_total", "Requests by route and status.", ["route", "status"])
        latency = histogram("glassbox_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS)
        self._items = counter(
            "glassbox_items_total", "Items by protocol, recipe and outcome.", ["protocol", "recipe", "outcome"]
        )
        self._reward = histogram("glassbox_reward", "Rewards by recipe.", ["recipe"], buckets=_REWARDS)
        self._texts = counter(
            "glassbox_texts_total",
            "Different texts of requests: cached, shared with another request, or encoded.",
            ["source"],
        )
        self._dataset_items = counter(
            "glassbox_dataset_items_total",
            "Items without a reference that were looked up in a data set: hit or miss.",
            ["outcome"],
        )
        self._requests = cache(requests.labels)  # `labels` is slow, and needed for every request
        self._latency = cache(latency.labels)

    def _define_admission(self) -> None:
        counter, gauge = partial(Counter, registry=self._registry), partial(Gauge, registry=self._registry)
        refusals = counter("glassbox_refused_total", "Requests refused or failed, by cause.", ["route", "cause"])
        self._capacity_refusals = counter(
            "glassbox_capacity_refusals_total",
            "Requests refused for want of capacity: of the caller that uses the most of it, or of another.",
            ["cause", "caller"],
        )
        self._held = gauge("glassbox_held_requests", "Requests held until they can be admitted.", ["protocol"])
        self._held_seconds = Histogram(
            "glassbox_held_seconds",
            "Time that requests were held, by how it ended.",
            ["protocol", "outcome"],
            buckets=_HELD_SECONDS,
            registry=self._registry,
        )
        self._connections = gauge("glassbox_connections", "Open connections.")
        self._refused_connections = counter(
            "glassbox_refused_connections_total", "Connections closed before a request: too many, or a bad head."
        )
        self._memory = gauge(
            "glassbox_request_bytes",
            "Memory charged to requests: bodies, what is made of them, and replies until they are sent.",
        )
        self._preparation_jobs = gauge(
            "glassbox_preparation_jobs", "Bodies being prepared and replies being serialised, or waiting for it."
        )
        self._preparation_bytes = gauge("glassbox_preparation_bytes", "Bytes of those bodies.")
        self._idempotent = counter(
            "glassbox_idempotent_total",
            "Requests with an Idempotency-Key: computed, shared with one in flight, replayed, or in conflict.",
            ["outcome"],
        )
        self._draining = gauge("glassbox_draining", "1 while the service shuts down.")
        self._process_restarts = gauge(
            "glassbox_process_restarts", "Serving processes that were replaced behind the same socket."
        )
        self._refusals = cache(refusals.labels)

    def _define_models(self) -> None:
        counter, gauge = partial(Counter, registry=self._registry), partial(Gauge, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        model = ["model"]
        self._batch_items = histogram("glassbox_batch_items", "Items of one model call.", model, buckets=_ITEMS)
        self._batch_requests = histogram(
            "glassbox_batch_requests", "Requests that shared a model call.", model, buckets=_ITEMS
        )
        self._model_seconds = counter("glassbox_model_seconds_total", "Time inside models.", model)
        self._tokens = counter(
            "glassbox_model_tokens_total", "Tokens given to models; kind is text or padding.", ["model", "kind"]
        )
        self._waiting = gauge("glassbox_waiting_items", "Items that wait for a model.", model)
        self._waiting_tokens = gauge("glassbox_waiting_tokens", "Tokens that wait for a model.", model)
        self._waiting_callers = gauge(
            "glassbox_waiting_callers", "Callers (API keys, or addresses) with items that wait for a model.", model
        )
        self._largest_caller = gauge(
            "glassbox_waiting_largest_caller_ratio",
            "Part of max_waiting_items that the caller with the most items uses, reservations included.",
            model,
        )
        self._queue_wait = histogram(
            "glassbox_queue_seconds",
            "Time from a request's submission to its first batch.",
            model,
            buckets=_SECONDS,
        )
        self._batch_failures = counter(
            "glassbox_batch_failures_total", "Model calls that failed.", ["model", "cause"]
        )
        self._not_finite = counter(
            "glassbox_not_finite_total", "Results of models that were NaN or infinite.", model
        )
        self._restarts = counter("glassbox_model_restarts_total", "Models reloaded after they hung.", model)

    # Requests -----------------------------------------------------------------------------------------------

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered with `status`."""
        self._requests(route, status).inc()
        self._latency(route).observe(seconds)

    def scored(self, protocol: str, run: str | None, reply: ScoreReply) -> None:
        """A request of `run` was scored. Thread-safe; slow for thousands of items."""
        recipe = reply.recipe.name
        self._runs.scored(run, recipe, reply.results)
        for source in ("cached", "shared", "encoded"):
            self._texts.labels(source).inc(getattr(reply.texts, source))
        outcomes = Tally("error" if reward is None else "scored" for reward in reply.rewards)
        for outcome, n in outcomes.items():
            self._items.labels(protocol, recipe, outcome).inc(n)
        observe = self._reward.labels(recipe).observe
        for reward in reply.rewards:
            if reward is not None:
                observe(reward)

    def run_failed(self, run: str | None, recipe: str | None, cause: str) -> None:
        """A request of `run` failed as a whole; `recipe` is None if it failed before its recipe was known."""
        self._runs.failed(run, recipe or UNKNOWN_RECIPE, cause)

    def looked_up(self, hits: int, misses: int) -> None:
        """References of a request were looked up in a data set. Thread-safe."""
        self._dataset_items.labels("hit").inc(hits)
        self._dataset_items.labels("miss").inc(misses)

    def gold_scored(self, protocol: str, n: int) -> None:
        """The gold model alone scored `n` items of a request."""
        self._items.labels(protocol, "gold", "scored").inc(n)

    # Admission ----------------------------------------------------------------------------------------------

    def refused(self, route: str, cause: str, caller_class: str = "") -> None:
        """A request did not succeed, because of `cause`; `caller_class` is that of the error."""
        self._refusals(route, cause).inc()
        if caller_class:
            self._capacity_refusals.labels(cause, caller_class).inc()

    def holding(self, protocol: str, change: int) -> None:
        """The number of held requests changed by `change`."""
        self._held.labels(protocol).inc(change)

    def held(self, protocol: str, outcome: str, seconds: float) -> None:
        """A request was held, and then `admitted`, `refused`, or `ended` for another reason."""
        self._held_seconds.labels(protocol, outcome).observe(seconds)

    def watch_memory(self, n_bytes: Callable[[], float]) -> None:
        """The memory charged to requests is read when metrics are exposed."""
        self._memory.set_function(n_bytes)

    def watch_preparation(self, jobs: Callable[[], int], n_bytes: Callable[[], int]) -> None:
        """The number of unfinished jobs, and the bytes of their bodies, are read when metrics are exposed."""
        self._preparation_jobs.set_function(jobs)
        self._preparation_bytes.set_function(n_bytes)

    def idempotent(self, outcome: str) -> None:
        """A request with an Idempotency-Key arrived."""
        self._idempotent.labels(outcome).inc()

    def watch_connections(self, n: Callable[[], int]) -> None:
        """`n` counts the open connections."""
        self._connections.set_function(n)

    def connection_refused(self) -> None:
        """A connection was closed before it had a request."""
        self._refused_connections.inc()

    def draining(self) -> None:
        """The service has begun to shut down."""
        self._draining.set(1)

    def process_restarts(self, n: int) -> None:
        """How many serving processes this one replaces."""
        self._process_restarts.set(n)

    # Models: `batching.MetricsHook` ---------------------------------------------------------------------------

    def batch_done(self, worker: str, batch: BatchStats) -> None:
        """A model call succeeded."""
        self._batch_items.labels(worker).observe(batch.items)
        self._batch_requests.labels(worker).observe(batch.requests)
        self._model_seconds.labels(worker).inc(batch.seconds)
        self._tokens.labels(worker, "text").inc(batch.tokens)
        self._tokens.labels(worker, "padding").inc(batch.padded_tokens - batch.tokens)

    def batch_failed(self, worker: str, cause: str) -> None:
        """A model call raised an exception, or timed out."""
        self._batch_failures.labels(worker, cause).inc()

    def not_finite(self, worker: str) -> None:
        """A result was NaN or infinite."""
        self._not_finite.labels(worker).inc()

    def watch_queue(self, worker: str, queue: BatchQueue[Any, Any]) -> None:
        """A model has a queue, whose size is read when metrics are exposed."""
        self._waiting.labels(worker).set_function(lambda: len(queue.waiting))
        self._waiting_tokens.labels(worker).set_function(lambda: queue.waiting_tokens)
        self._waiting_callers.labels(worker).set_function(lambda: len(queue.callers))
        self._largest_caller.labels(worker).set_function(lambda: queue.callers.items.largest)

    def waited(self, worker: str, seconds: float) -> None:
        """Time from a request's submission to its first batch."""
        self._queue_wait.labels(worker).observe(seconds)

    def restarted(self, worker: str) -> None:
        """A model that hung is reloaded."""
        self._restarts.labels(worker).inc()

    # Exposition ---------------------------------------------------------------------------------------------

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
