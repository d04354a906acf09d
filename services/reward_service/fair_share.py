"""Capacity that callers share: one alone may use most of it, and some of it always stays free for a newcomer.

A caller may use at most `_ALPHA` times what is free. Alone it gets 8/9 of the capacity; two that want more than
there is get 8/17 each. Source: Choudhury & Hahne, "Dynamic queue length thresholds for shared-memory packet
switches", IEEE/ACM Transactions on Networking 6 (1998).
"""

import ipaddress
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

_ALPHA = 8


class FairShare:
    """Use of one resource, by caller. An amount that has been added must be removed later."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.total: float = 0
        self._used: Counter[str] = Counter()

    def allows(self, caller: str, amount: float) -> bool:
        """Whether `caller` may use `amount` more now; the first use of all is always allowed."""
        free = self.limit - self.total - amount
        used = self._used[caller]
        return not self.total or (free >= 0 and (not used or used + amount <= _ALPHA * free))

    def add(self, caller: str, amount: float) -> None:
        """Count `amount` more for `caller`; a negative amount is released. It is not checked."""
        self.total += amount
        self._used[caller] += amount  # type: ignore[assignment]
        if self._used[caller] <= 0:
            del self._used[caller]

    def used(self, caller: str) -> float:
        """What `caller` uses."""
        return self._used.get(caller, 0)

    def class_of(self, caller: str) -> str:
        """The class of `caller` among those that use something."""
        return caller_class(self.used(caller), self._used.values())

    @property
    def largest(self) -> float:
        """The part of the capacity that the caller with the most uses, 0 to 1. Any thread may read it."""
        return max(list(self._used.values()), default=0) / self.limit

    @property
    def callers(self) -> int:
        """Number of callers that use something."""
        return len(self._used)


def caller_class(used: float, of_all: Iterable[float]) -> str:
    """`largest` for a caller that uses as much as any, `other` for the rest."""
    return "largest" if used >= max(of_all, default=0) else "other"


@lru_cache(maxsize=4096)
def caller_address(host: str) -> str:
    """The address that capacity is shared by; of IPv6 the network of 64 bits, all of which one machine may use.

    A socket that accepts IPv4 and IPv6 reports IPv4 addresses as `::ffff:10.0.0.1`.
    """
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
