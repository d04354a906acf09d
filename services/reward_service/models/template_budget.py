"""What one rendering of a chat template may use: steps, and characters of each value. See `chat_template`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateRuntimeError

BASE_STEPS = 200_000
"""Steps of any rendering: a tenth of a second. Usual templates need about 20 a message."""
STEPS_PER_CHAR = 1
"""Further steps for each character of the conversation: each may be read 64 times."""
BASE_CHARS = 1_000_000
"""Characters of one value or of the output, for any conversation."""
CHARS_PER_CHAR = 8
"""Further characters for each character of the conversation: JSON escapes take six."""
CHARS_PER_STEP = 64
"""Characters that an operation reads or writes as one step."""
MAX_INT_BITS = 10_000
"""Bits of an integer; 9 ** 9 ** 9 would take all memory."""
_NUMBER = re.compile(r"\d{1,20}")

_CONTAINERS = (list, tuple, dict, set, frozenset)


class TemplateLimitError(TemplateRuntimeError):
    """A chat template exceeds its steps or characters."""


class Budget:
    """What one rendering may still use."""

    def __init__(self, n_chars: int) -> None:
        self.max_chars = BASE_CHARS + CHARS_PER_CHAR * n_chars
        self._steps = BASE_STEPS + STEPS_PER_CHAR * n_chars

    def step(self, n_chars: int = 0) -> None:
        self._steps -= 1 + n_chars // CHARS_PER_STEP
        if self._steps < 0:
            raise TemplateLimitError("it needs too many steps")

    def check_chars(self, n_chars: int) -> None:
        if n_chars > self.max_chars:
            raise TemplateLimitError(f"it builds a text of more than {self.max_chars} characters")

    def use(self, value: Any) -> int:
        """Count a value that was computed: the characters of its texts, and one for each other part."""
        if isinstance(value, str | bytes):
            n_chars = len(value)
        elif isinstance(value, _CONTAINERS):
            n_chars = self._n_chars(value)
        elif isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            raise TemplateLimitError("it computes an integer that is too large")
        else:
            return 0
        if n_chars > self.max_chars:
            self.check_chars(n_chars)
        self.step(n_chars)
        return n_chars

    def _n_chars(self, value: Any) -> int:
        total, parts = len(value), [value]
        while parts:
            part = parts.pop()
            self.step(CHARS_PER_STEP * len(part))
            for one in (*part.keys(), *part.values()) if isinstance(part, dict) else part:
                if isinstance(one, _CONTAINERS):
                    parts.append(one)
                if isinstance(one, (str, bytes, *_CONTAINERS)):
                    total += len(one)
                    self.check_chars(total)
        return total


def check_growth(budget: Budget, name: str, value: Any, given: Sequence[Any]) -> None:
    """Check the length of what the method or filter `name` would build of `value` and its arguments `given`.

    The bound is the longest argument in each place that is filled; numbers are widths.
    """
    longest = max((abs(one) if isinstance(one, int) else budget.use(one) for one in given), default=0)
    if name == "sum" and any(isinstance(one, _CONTAINERS) for one in given):
        raise TemplateLimitError("it adds lists with sum")
    n_places = 1
    if name == "join":  # of a separator, as a method, or of a list, as a filter
        parts, longest = (given[0], len(value)) if isinstance(value, str | bytes) and given else (value, longest)
        n_places = budget.use(parts)
    elif isinstance(value, str | bytes):
        text = str(value)
        if name in {"format", "format_map"}:
            longest = max(longest, *(int(width) for width in _NUMBER.findall(text)), 0)
            n_places = text.count("%") + text.count("{")
        elif name == "replace" and given:
            n_places = text.count(str(given[0]))
        elif name in {"indent", "expandtabs"}:
            n_places = text.count("\n") + text.count("\t") * 8 + 1
    budget.check_chars(budget.use(value) + n_places * longest)


def check_operator(budget: Budget, operator: str, left: Any, right: Any) -> None:
    """Check what `%`, `*` or `**` would build."""
    if operator == "%" and isinstance(left, str | bytes):
        check_growth(budget, "format", left, right if isinstance(right, tuple) else [right])
    if operator == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(times, int) and isinstance(sequence, str | bytes | list | tuple):
                budget.check_chars(len(sequence) * times)
    if operator != "%" and isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > 2 * MAX_INT_BITS:
            raise TemplateLimitError("it computes an integer that is too large")
