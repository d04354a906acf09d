"""The gold reward model's score as a factor: training on a reward model is the paper's baseline."""

from __future__ import annotations

from reward_service.features.feature import UNBOUNDED, Feature, GoldScore

__all__ = ["GOLD"]

GOLD = Feature(
    name="gold",
    needs=GoldScore,
    range=UNBOUNDED,
    label="Gold",
    description="the gold reward model's score",
    log_key="gold_reward",
    compute=lambda inputs: inputs.score,
)
