"""Endpoints of a client: its URLs, each with a circuit breaker; selects the URL for the next attempt.

URLs are in order of preference: the first one available is selected. This is the only state that concurrent calls
share, so it has a lock; the decisions are in `circuit`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from reward_client.circuit import Circuit, CircuitPolicy, State
from reward_client.urls import Address

_logger = logging.getLogger("reward_client")


class Endpoints:
    """Addresses and their circuits; safe to share between threads and tasks."""

    def __init__(self, addresses: Sequence[Address], policy: CircuitPolicy) -> None:
        self.addresses = tuple(addresses)
        self._circuits = [Circuit(policy) for _ in self.addresses]
        self._lock = threading.Lock()

    def begin(
        self, not_before_s: Mapping[int, float], now_s: float, *, respect_circuit: bool = True
    ) -> tuple[int, float]:
        """Select an address, and record that an attempt begins there if it need not wait.

        Args:
            not_before_s: earliest times for retries of this call, by index of the address.
            now_s: the current time.
            respect_circuit: whether an address with an open circuit is skipped.

        Returns:
            The index of the address, and the seconds until an attempt there may begin.
        """
        with self._lock:
            waits = [
                max(circuit.wait_s(now_s) if respect_circuit else 0.0, not_before_s.get(index, now_s) - now_s)
                for index, circuit in enumerate(self._circuits)
            ]
            index = min(range(len(waits)), key=waits.__getitem__)
            if waits[index] <= 0:
                self._circuits[index] = self._circuits[index].began(now_s)
            return index, max(0.0, waits[index])

    def succeeded(self, index: int, now_s: float) -> None:
        """Record that the service at `index` responded."""
        with self._lock:
            before, self._circuits[index] = self._circuits[index], self._circuits[index].succeeded()
        if before.state(now_s) is not State.CLOSED:
            _logger.info("circuit of %s closed: it responds again", self.addresses[index].url)

    def failed(self, index: int, now_s: float, cause: str, retry_after_s: float | None = None) -> None:
        """Record that `index` did not respond, or cannot serve any request for `retry_after_s` seconds."""
        with self._lock:
            before = self._circuits[index]
            after = self._circuits[index] = before.failed(now_s, cause, retry_after_s)
        if after.open_until_s is not None and after.open_until_s != before.open_until_s:
            _logger.warning("%s", self._describe(index, now_s))

    def abandoned(self, index: int) -> None:
        """Record that the attempt at `index` was cancelled."""
        with self._lock:
            self._circuits[index] = self._circuits[index].abandoned()

    def states(self, now_s: float) -> list[State]:
        """State of each circuit."""
        return [circuit.state(now_s) for circuit in self._circuits]

    def open_circuits(self, now_s: float) -> list[str]:
        """Describe each circuit that is not closed."""
        states = self.states(now_s)
        return [self._describe(i, now_s) for i, state in enumerate(states) if state is not State.CLOSED]

    def _describe(self, index: int, now_s: float) -> str:
        circuit, url = self._circuits[index], self.addresses[index].url
        why = f"{circuit.failures} failures in a row, the last one: {circuit.cause}"
        if circuit.state(now_s) is State.HALF_OPEN:
            return f"circuit of {url} is half-open, and another call is trying it ({why})"
        return f"circuit of {url} is open for {circuit.wait_s(now_s):.1f} s ({why})"
