"""Processor time of a call, to compare with that of another call: never with a number of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["assert_at_most", "assert_in_proportion"]

_TICK_S = 0.05
"""What a machine that others use adds to a short call."""
_RUNS = 3


def assert_at_most(
    times: float, longer: Callable[[], object], shorter: Callable[[], object], what: str = "it"
) -> None:
    """`longer` takes at most `times` the processor time of `shorter`; the shortest of several runs counts."""
    allowed = times * min(_cpu_s(shorter) for _ in range(_RUNS)) + _TICK_S
    needed = _cpu_s(longer)
    for _ in range(_RUNS - 1):
        if needed > allowed:
            needed = min(needed, _cpu_s(longer))
    assert needed <= allowed, f"{what} takes {needed:.3f} s, {allowed:.3f} s are allowed"


def assert_in_proportion(call: Callable[[str], object], text: str) -> None:
    """`call` takes about four times as long for `text` as for its first quarter, and not sixteen times.

    It must read all of the text, and keep nothing from one call to the next.
    """
    first = text[: len(text) // 4]
    assert_at_most(8, lambda: call(text), lambda: call(first), f"{text[:20]!r}…")


def _cpu_s(call: Callable[[], object]) -> float:
    """Processor seconds of this thread."""
    began = time.thread_time()
    call()
    return time.thread_time() - began
