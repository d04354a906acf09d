"""What the service tells Prometheus; one registry per application, so that tests and replicas do not share."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from reward_client.wire import ScoreReply
from reward_service.batching import BatchStats

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 150)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """The metrics, by name; every label has few values, and none of them is a caller's text."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "glassbox_requests_total",
            "Requests by route and status.",
            ["route", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "glassbox_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=self._registry
        )
        self._items = Counter(
            "glassbox_items_total",
            "Items by protocol, recipe and outcome.",
            ["protocol", "recipe", "outcome"],
            registry=self._registry,
        )
        self._reward = Histogram(
            "glassbox_reward",
            "Rewards by recipe.",
            ["recipe"],
            buckets=(-1, 0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
            registry=self._registry,
        )
        self._batch_items = Histogram(
            "glassbox_batch_items", "Items of one model call.", ["model"], buckets=_ITEMS, registry=self._registry
        )
        self._batch_requests = Histogram(
            "glassbox_batch_requests",
            "Requests that shared a model call.",
            ["model"],
            buckets=_ITEMS,
            registry=self._registry,
        )
        self._model_seconds = Counter(
            "glassbox_model_seconds_total", "Time inside models.", ["model"], registry=self._registry
        )
        self._tokens = Counter(
            "glassbox_model_tokens_total",
            "Tokens given to models; kind is text or padding.",
            ["model", "kind"],
            registry=self._registry,
        )
        self._waiting = Gauge(
            "glassbox_waiting_items", "Items that wait for a model.", ["model"], registry=self._registry
        )
        self._waiting_tokens = Gauge(
            "glassbox_waiting_tokens", "Tokens that wait for a model.", ["model"], registry=self._registry
        )
        self._queue_wait = Histogram(
            "glassbox_queue_seconds",
            "Time from a request's submission to its first batch.",
            ["model"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batch_failures = Counter(
            "glassbox_batch_failures_total",
            "Model calls that failed.",
            ["model", "cause"],
            registry=self._registry,
        )
        self._not_finite = Counter(
            "glassbox_not_finite_total",
            "Results of models that were NaN or infinite.",
            ["model"],
            registry=self._registry,
        )
        self._restarts = Counter(
            "glassbox_model_restarts_total",
            "Models loaded anew after they hung.",
            ["model"],
            registry=self._registry,
        )
        self._texts = Counter(
            "glassbox_texts_total",
            "Different texts of requests: cached, shared with another request, or encoded.",
            ["source"],
            registry=self._registry,
        )

        self._answers = cache(self._requests.labels)  # asked for with every request, and slow to look up
        self._latencies = cache(self._latency.labels)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request got its answer."""
        self._answers(route, status).inc()
        self._latencies(route).observe(seconds)

    def scored(self, protocol: str, reply: ScoreReply) -> None:
        """A request was scored."""
        recipe = reply.recipe.name
        for source in ("cached", "shared", "encoded"):
            self._texts.labels(source).inc(getattr(reply.texts, source))
        for reward in reply.rewards:
            self._items.labels(protocol, recipe, "error" if reward is None else "scored").inc()
            if reward is not None:
                self._reward.labels(recipe).observe(reward)

    def batch_done(self, worker: str, batch: BatchStats) -> None:
        """A model call succeeded."""
        self._batch_items.labels(worker).observe(batch.items)
        self._batch_requests.labels(worker).observe(batch.requests)
        self._model_seconds.labels(worker).inc(batch.seconds)
        self._tokens.labels(worker, "text").inc(batch.tokens)
        self._tokens.labels(worker, "padding").inc(batch.padded_tokens - batch.tokens)

    def batch_failed(self, worker: str, cause: str) -> None:
        """A model call raised, or never came back."""
        self._batch_failures.labels(worker, cause).inc()

    def not_finite(self, worker: str) -> None:
        """A result was NaN or infinite."""
        self._not_finite.labels(worker).inc()

    def waiting(self, worker: str, items: int, tokens: int) -> None:
        """So much waits for a model now."""
        self._waiting.labels(worker).set(items)
        self._waiting_tokens.labels(worker).set(tokens)

    def waited(self, worker: str, seconds: float) -> None:
        """A request waited so long for its first batch."""
        self._queue_wait.labels(worker).observe(seconds)

    def restarted(self, worker: str) -> None:
        """A model that hung is loaded anew."""
        self._restarts.labels(worker).inc()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)
