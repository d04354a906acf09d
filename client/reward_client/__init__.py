"""Client of the Glassbox reward service: httpx and pydantic, no torch."""

from reward_client.circuit import CircuitPolicy
from reward_client.client import AsyncRewardClient, RewardClient
from reward_client.errors import RewardError, RewardRejectedError, RewardUnavailableError, Unscored
from reward_client.retry import RetryPolicy
from reward_client.wire import ChatMessage, Item, QueryType, ScoreReply

__all__ = [
    "AsyncRewardClient",
    "ChatMessage",
    "CircuitPolicy",
    "Item",
    "QueryType",
    "RetryPolicy",
    "RewardClient",
    "RewardError",
    "RewardRejectedError",
    "RewardUnavailableError",
    "ScoreReply",
    "Unscored",
]
