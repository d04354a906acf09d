"""The features that ship with the service. Source: Kim & Seo (EMNLP 2024)."""

from typing import Any

from reward_service.features.builtin.gold import GOLD
from reward_service.features.builtin.length import LENGTH_INCENTIVE, MAX_LENGTH_INCENTIVE
from reward_service.features.builtin.relevance import QUERY_RELEVANCE, REFERENCE_RELEVANCE
from reward_service.features.builtin.repetition import REPETITION_PENALTY
from reward_service.features.feature import Feature

__all__ = ["BUILTIN"]

BUILTIN: tuple[Feature[Any], ...] = (
    LENGTH_INCENTIVE,
    REPETITION_PENALTY,
    QUERY_RELEVANCE,
    REFERENCE_RELEVANCE,
    MAX_LENGTH_INCENTIVE,
    GOLD,
)
"""In the order in which replies and the reward page list them."""
