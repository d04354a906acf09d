"""Features and recipes of the white-box reward. Plug-ins import from here; see `registry`."""

from reward_service.features.feature import (
    UNBOUNDED,
    Feature,
    GoldScore,
    PromptVectors,
    RecipeOnly,
    ReferenceVectors,
    ResponseText,
    SentenceVectors,
)

__all__ = [
    "UNBOUNDED",
    "Feature",
    "GoldScore",
    "PromptVectors",
    "RecipeOnly",
    "ReferenceVectors",
    "ResponseText",
    "SentenceVectors",
]
