"""Length: LI = words / 100, and the constant LI of the longest response, which scales closed-ended rewards."""

from __future__ import annotations

from collections.abc import Sequence

from reward_service.features.feature import Feature, Range, RecipeOnly, RecipeParameters, ResponseText

__all__ = ["LENGTH_INCENTIVE", "MAX_LENGTH_INCENTIVE", "length_incentive"]

_WORDS_PER_UNIT = 100
"""Words with a length incentive of 1."""


def length_incentive(words: Sequence[str]) -> float:
    """Words / 100."""
    return len(words) / _WORDS_PER_UNIT


def _longest(parameters: RecipeParameters) -> float:
    """Length incentive of the longest response; a word is about a token, so tokens bound words."""
    return parameters.max_response_tokens / _WORDS_PER_UNIT


def _range(parameters: RecipeParameters) -> Range:
    return 0.0, _longest(parameters)


def _constant(parameters: RecipeParameters) -> Range:
    return _longest(parameters), _longest(parameters)


LENGTH_INCENTIVE = Feature(
    name="length_incentive",
    needs=ResponseText,
    range=_range,
    label="Length incentive",
    description="words / 100",
    log_key="length_incentive",
    compute=lambda inputs: length_incentive(inputs.words),
)

MAX_LENGTH_INCENTIVE = Feature(
    name="max_length_incentive",
    needs=RecipeOnly,
    range=_constant,
    label="Longest answer's incentive",
    description="allowed tokens / 100: puts both query types on one scale",
    log_key=None,
    compute=lambda inputs: _longest(inputs.parameters),
)
