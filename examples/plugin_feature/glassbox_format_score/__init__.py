"""`format_score`: the share of required tags that a response has, each exactly once and in this order.

<think> … </think> <answer> … </answer>    1.0
<answer> … </answer>                       0.5
no tag at all                              0.0
"""

from __future__ import annotations

from reward_service.features import Feature, ResponseText

__all__ = ["FORMAT_SCORE", "format_score"]

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def format_score(response: str) -> float:
    """Share of the tags that occur exactly once, after the tags before them."""
    found, position = 0, 0
    for tag in _TAGS:
        place = response.find(tag, position)
        if place >= 0 and response.count(tag) == 1:
            found += 1
            position = place + len(tag)
    return found / len(_TAGS)


FORMAT_SCORE = Feature(
    name="format_score",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Format score",
    description="share of the tags <think> and <answer> in place",
    log_key="format_score",
    compute=lambda inputs: format_score(inputs.response),
)
