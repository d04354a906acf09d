"""Client of the Glassbox reward service: httpx and pydantic, no torch."""

from importlib.metadata import PackageNotFoundError, version

from reward_client.client import AsyncRewardClient, RewardClient
from reward_client.endpoints import CircuitPolicy
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
    "__version__",
]

try:
    __version__ = version("glassbox-reward")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
