"""`conciseness`: 1,000 / (1,000 + words). Of two right answers, the one with less around it is better.

The slope is small, because a derivation is worth its words: 60 words cost 6 %, 200 words 17 %.
"""

from __future__ import annotations

from reward_service.features.feature import Feature, ResponseText

_HALF_AT = 1000
"""Words with a value of one half."""


def conciseness(n_words: int) -> float:
    """1 for no words, one half for a thousand."""
    return _HALF_AT / (_HALF_AT + n_words)


CONCISENESS = Feature(
    name="conciseness",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Conciseness",
    description="1000 / (1000 + words)",
    log_key="conciseness",
    compute=lambda inputs: conciseness(len(inputs.words)),
    reads_prompt=False,
)
