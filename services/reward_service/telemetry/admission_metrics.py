"""What the edge tells Prometheus: who was refused and why, who is held, what waits in memory.

A registry of its own; `GET /metrics` writes it after that of `reward_service.telemetry.metrics`.
"""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["AdmissionMetrics"]

_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 100, 150)


class AdmissionMetrics:
    """Labels are routes (as patterns), protocols and causes; never a caller's text."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._refused = Counter(
            "glassbox_refused_total",
            "Requests that were refused or failed, by cause.",
            ["route", "cause"],
            registry=self._registry,
        )
        self._held = Gauge(
            "glassbox_held_requests",
            "Requests that are held until they can be admitted.",
            ["protocol"],
            registry=self._registry,
        )
        self._held_seconds = Histogram(
            "glassbox_held_seconds",
            "Time that requests were held, by how it ended.",
            ["protocol", "outcome"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._body_bytes = Gauge(
            "glassbox_body_bytes", "Bytes of the bodies that are being read or answered.", registry=self._registry
        )
        self._idempotent = Counter(
            "glassbox_idempotent_total",
            "Requests with an Idempotency-Key: computed, shared with one in flight, replayed, or in conflict.",
            ["outcome"],
            registry=self._registry,
        )
        self._draining = Gauge(
            "glassbox_draining", "1 once the service was told to stop.", registry=self._registry
        )

        self._restarts = Gauge(
            "glassbox_process_restarts",
            "Serving processes that were replaced behind the same socket, before this one.",
            registry=self._registry,
        )

        self._refusals = cache(self._refused.labels)  # asked for most when there is least time

    def restarts(self, n: int) -> None:
        """So many processes served here before this one."""
        self._restarts.set(n)

    def refused(self, route: str, cause: str) -> None:
        """A request got no success, because of `cause`."""
        self._refusals(route, cause).inc()

    def holding(self, protocol: str, change: int) -> None:
        """One request more (1) or less (-1) is held."""
        self._held.labels(protocol).inc(change)

    def held(self, protocol: str, outcome: str, seconds: float) -> None:
        """A request was held for `seconds`, and then `admitted`, `refused`, or `ended` for another reason."""
        self._held_seconds.labels(protocol, outcome).observe(seconds)

    def body_bytes(self, n: int) -> None:
        """So many bytes of bodies are in memory now."""
        self._body_bytes.set(n)

    def idempotent(self, outcome: str) -> None:
        """A request with an Idempotency-Key came."""
        self._idempotent.labels(outcome).inc()

    def draining(self) -> None:
        """The service was told to stop."""
        self._draining.set(1)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)
