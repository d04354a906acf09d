"""`requested_items`: how well a list answers a request for a number of items, from 0 to 1.

    "Give me six questions", "List five fruits", "Name at least three large rivers", "What are 5 ways to …"

With n items requested, k in the response and s the share of its words that are in the list, the value is
min(k / n, 1) × s, and min(k / n, (n / k)²) × s if k is larger. Items are the lines with a mark or a number, those
of sub-lists excluded; the list extends from the first one to the end of the last one's paragraph. Of an item more
than three times as long as the median one, the words beyond that are not in the list, because text that follows
the last item is no item. A list of items is complete however plain its words are, and text around it adds nothing.
The feature does not apply without such a request, or without two such lines. English requests only. Cost: linear
in the response.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.requested_length import adherence

_NUMBERS = dict(
    zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13), strict=True)  # noqa: SIM905
)
_LONGEST = 3
"""Words of an item that count, in median items."""
_REQUEST = regex.compile(
    r"\b(?:list|name|give|suggest|provide|share|recommend|propose|mention|write|create|generate|brainstorm|find|tell"
    r"|what are|come up with|think of)\s+(?:(?:me|us|at least|a list of|the|some|out|down|up to|about)\s+)*+"
    rf"(?<n>\d{{1,2}}|{'|'.join(_NUMBERS)})\s+"
    r"(?!(?:[a-z-]+\s+)?(?:word|sentence|line|paragraph|character|syllable|page|minute|hour|day|week|month|year|percent|time|euro"
    r"|dollar)s?\b)(?:[a-z-]+\s+){0,3}?(?:[a-z-]{2,}s|people|children)\b",
    regex.IGNORECASE,
)
_ITEM = regex.compile(
    r"^(?<indent>[ \t]*)(?:[#*]{1,4}[ \t]*)?(?:(?<number>\d{1,3}[.)])|[-*•–+])[ \t]+\S.*+$", regex.MULTILINE
)


def requested_items(instruction: str, response: str) -> float | None:
    """Adherence to the number of items that `instruction` requests; None without a request or without a list."""
    request = _REQUEST.search(instruction)
    items = list(_ITEM.finditer(response)) if request else []
    if request is None or len(items) < 2:
        return None
    wanted = _NUMBERS.get(request["n"].lower()) or int(request["n"])
    return adherence(_n_items(items), wanted, wanted) * _n_listed(items, response) / len(response.split())


def _n_listed(items: list[regex.Match[str]], response: str) -> int:
    """Words of the list, from the first item to the end of the last one's paragraph."""
    end = response.find("\n\n", items[-1].end())
    bounds = [*(item.start() for item in items), end if end >= 0 else len(response)]
    lengths = [len(response[a:b].split()) for a, b in pairwise(bounds)]
    longest = _LONGEST * median(lengths)
    return int(sum(min(length, longest) for length in lengths))


def _n_items(items: list[regex.Match[str]]) -> int:
    """Items of the outer list: those with the least indent, and of these the numbered ones if there are two."""
    least = min(len(item["indent"]) for item in items)
    outer = [item for item in items if len(item["indent"]) == least]
    numbered = sum(item["number"] is not None for item in outer)
    return numbered if numbered > 1 else len(outer)


REQUESTED_ITEMS = Feature(
    name="requested_items",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Requested items",
    description="items of the list / requested ones, times the share of the words that are in the list",
    log_key="requested_items",
    applies_to="prompt",
    compute=lambda inputs: requested_items(inputs.request, inputs.response),
)
