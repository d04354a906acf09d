"""The URLs of a client, each with its circuit: which one to ask now, and what its answers say of its health.

In order of preference: the first that may be asked is asked. The one piece of state that calls share, so it has a
lock; what it decides is `circuit`'s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from reward_client.circuit import Circuit, CircuitPolicy, State
from reward_client.urls import Address

__all__ = ["Endpoints"]

_logger = logging.getLogger("reward_client")


class Endpoints:
    """Addresses and their circuits; safe to share between threads and tasks."""

    def __init__(self, addresses: Sequence[Address], policy: CircuitPolicy) -> None:
        self.addresses = tuple(addresses)
        self._circuits = [Circuit(policy) for _ in self.addresses]
        self._lock = threading.Lock()

    def begin(
        self, not_before_s: Mapping[int, float], now_s: float, *, heed_circuit: bool = True
    ) -> tuple[int, float]:
        """Choose an address and note that an attempt begins there, when the second figure, a wait, is 0.

        Args:
            not_before_s: times before which the caller itself leaves addresses alone, by index.
            now_s: the time.
            heed_circuit: whether an open circuit keeps this caller away.

        Returns:
            The index of an address, and the seconds until an attempt there may begin.
        """
        with self._lock:
            waits = [
                max(circuit.wait_s(now_s) if heed_circuit else 0.0, not_before_s.get(index, now_s) - now_s)
                for index, circuit in enumerate(self._circuits)
            ]
            index = min(range(len(waits)), key=waits.__getitem__)
            if waits[index] <= 0:
                self._circuits[index] = self._circuits[index].began(now_s)
            return index, max(0.0, waits[index])

    def succeeded(self, index: int, now_s: float) -> None:
        """The service at `index` answered."""
        with self._lock:
            before, self._circuits[index] = self._circuits[index], self._circuits[index].succeeded()
        if before.state(now_s) is not State.CLOSED:
            _logger.info("circuit of %s closed: it answers again", self.addresses[index].url)

    def failed(self, index: int, now_s: float, cause: str, asked_s: float | None = None) -> None:
        """The service at `index` gave no answer, or could not serve anybody until `asked_s` seconds from now."""
        with self._lock:
            before = self._circuits[index]
            after = self._circuits[index] = before.failed(now_s, cause, asked_s)
        if after.open_until_s is not None and after.open_until_s != before.open_until_s:
            _logger.warning("%s", self._open_sentence(index, now_s))

    def abandoned(self, index: int) -> None:
        """The caller left before the attempt at `index` had an outcome."""
        with self._lock:
            self._circuits[index] = self._circuits[index].abandoned()

    def states(self, now_s: float) -> list[State]:
        """State of each address's circuit."""
        return [circuit.state(now_s) for circuit in self._circuits]

    def open_sentences(self, now_s: float) -> list[str]:
        """One sentence for each circuit that is not closed."""
        states = self.states(now_s)
        return [self._open_sentence(i, now_s) for i, state in enumerate(states) if state is not State.CLOSED]

    def _open_sentence(self, index: int, now_s: float) -> str:
        circuit, url = self._circuits[index], self.addresses[index].url
        why = f"{circuit.failures} failures in a row, the last one {circuit.cause}"
        if circuit.state(now_s) is State.HALF_OPEN:
            return f"circuit of {url} is half-open, another call is trying it ({why})"
        return f"circuit of {url} is open for {circuit.wait_s(now_s):.1f} s ({why})"
