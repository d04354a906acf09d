"""Room for requests that are not prepared yet, so that their units are not known.

A *reservation* counts for such a request: estimated from the size of its body, and from what earlier requests of
its caller had. So the requests of one caller do not change the estimate for another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cachetools import LRUCache

from reward_service.fair_share import FairShare

_CALLERS = 1024
"""Callers of which the contents of requests are remembered; others are treated as new."""
_MEMORY = 0.8
"""Weight of a caller's earlier requests against a new one."""
_MAX_ITEMS = 8192
"""Items that are expected of one request at most: two texts for each of the 4,096 that it may have by default."""
_MAX_TOKENS = 512 * _MAX_ITEMS
"""Tokens that are expected of one request at most."""


@dataclass(slots=True, eq=False)
class Reservation:
    """Room for one request that is not prepared yet: the items and tokens expected from it."""

    reservations: Reservations
    caller: str
    n_bytes: int
    items: int
    tokens: int
    held: bool = False

    def hold(self) -> None:
        """Count the request as waiting."""
        self.held = True
        self._count(1)

    def release(self) -> None:
        """Stop counting it, when the request has been queued or dropped. Idempotent."""
        if self.held:
            self.held = False
            self._count(-1)

    def _count(self, sign: int) -> None:
        self.reservations.items.add(self.caller, sign * self.items)
        self.reservations.tokens.add(self.caller, sign * self.tokens)


@dataclass(slots=True)
class _Contents:
    """Units and tokens of one caller's requests by their bytes, as moving averages.

    They begin with one unit, and a token for every four bytes, as in English text, and recent requests count most.
    """

    n_bytes: float = 1_000.0
    units: float = 1.0
    tokens: float = 250.0

    def observe(self, n_bytes: int, units: int, tokens: int) -> None:
        """A request of `n_bytes` queued this many units and tokens."""
        self.n_bytes = _MEMORY * self.n_bytes + n_bytes
        self.units = _MEMORY * self.units + units
        self.tokens = _MEMORY * self.tokens + tokens


class Reservations:
    """The reservations of one model, and what they are estimated from.

    Args:
        items: queued entries, and those expected, by caller.
    """

    def __init__(self, items: FairShare) -> None:
        self.items = items
        self.tokens = FairShare(math.inf)
        """Expected, by caller."""
        self._contents: LRUCache[str, _Contents] = LRUCache(_CALLERS)

    def expect(self, name: str, n_bytes: int) -> Reservation:
        """A reservation, which is not held yet, for a request of caller `name` with a body of `n_bytes`."""
        known = self._contents.get(name) or _Contents()
        items, tokens = (math.ceil(n_bytes * n / known.n_bytes) for n in (known.units, known.tokens))
        return Reservation(self, name, n_bytes, max(1, min(items, _MAX_ITEMS)), min(tokens, _MAX_TOKENS))

    def observe(self, reservation: Reservation, units: int, tokens: int) -> None:
        """The request of `reservation` has this many units and tokens; release it."""
        self._contents.setdefault(reservation.caller, _Contents()).observe(reservation.n_bytes, units, tokens)
        reservation.release()
