"""Client of the Glassbox reward service: httpx and pydantic, no torch."""

from reward_client.client import AsyncRewardClient, RewardClient
from reward_client.errors import RewardError, RewardRejectedError, RewardUnavailableError
from reward_client.retry import RetryPolicy
from reward_client.wire import ChatMessage, Item, QueryType, ScoreReply

__all__ = [
    "AsyncRewardClient",
    "ChatMessage",
    "Item",
    "QueryType",
    "RetryPolicy",
    "RewardClient",
    "RewardError",
    "RewardRejectedError",
    "RewardUnavailableError",
    "ScoreReply",
]
