"""Gold scores of exchanges in one batch."""

from __future__ import annotations

from collections.abc import Sequence

from reward_service.models.protocols import Exchange, LocalGold

__all__ = ["scores"]


def scores(gold: LocalGold, exchanges: Sequence[Exchange]) -> list[float]:
    """Run one forward pass over `exchanges`."""
    return gold.score([gold.tokenize(exchange) for exchange in exchanges])
