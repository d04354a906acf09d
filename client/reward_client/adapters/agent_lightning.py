"""Agent Lightning: score an agent's last response, and report it as the reward of the rollout.

    from reward_client.adapters.agent_lightning import report

    report(question, answer, reference)            at the end of the agent, in the process that runs it

The gateway's address and key come from AGL_EVENT_URL and AGL_KEY, which Agent Lightning sets. A failure raises, so
the rollout fails without a reward. Its trainer replaces a missing reward by `agentlightning.reward_fillna_value`,
0.0 by default: set that to null, so that a missing reward ends the run.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

import httpx

from reward_client.adapters.samples import Sample
from reward_client.adapters.scorer import Scored, rewards, scorer_of
from reward_client.adapters.settings import AdapterSettings, framework_variable
from reward_client.client import RewardClient
from reward_client.errors import RewardError
from reward_client.urls import Address, key_from_environment, without_userinfo

_URL, _KEY = "AGL_EVENT_URL", "AGL_KEY"
_SEND_S = 60.0
"""Seconds to report a reward, with retries; a reward that is reported twice counts once."""


def report(prompt: Any, response: Any, reference: Any = None, query_type: Any = None, **settings: Any) -> float:
    """Report the reward of `response`, with its features, and return it.

    Raises RewardError, before anything is scored when AGL_EVENT_URL or AGL_KEY cannot be used.

    `settings` are those of `AdapterSettings`; those not given come from the environment.
    """
    scorer, gateway = scorer_of(AdapterSettings.load(**settings)), _gateway()
    (scored,) = scorer.score([Sample(prompt, response, reference, query_type)])
    (reward,) = rewards([scored])
    gateway.send(_event(reward, scored))
    return reward


async def report_async(
    prompt: Any, response: Any, reference: Any = None, query_type: Any = None, **settings: Any
) -> float:
    """As `report`, for an event loop."""
    return await asyncio.to_thread(report, prompt, response, reference, query_type, **settings)


def _event(reward: float, scored: Scored) -> dict[str, Any]:
    """Agent Lightning's event of type `reward`; its trainer reads `value`, hooks and logs the rest."""
    return {
        "event_type": "reward",
        "data": {"value": reward, "source": "glassbox", "features": scored.applicable_features()},
    }


class _Gateway(NamedTuple):
    """Where the rewards of this rollout are reported."""

    url: str
    path: str
    key: str | None

    def send(self, event: dict[str, Any]) -> None:
        try:
            with RewardClient(self.url, api_key=self.key, deadline_s=_SEND_S) as gateway:
                gateway.post(self.path, json.dumps(event).encode())
        except RewardError as exc:
            raise RewardError(f"Agent Lightning's gateway did not take the reward: {exc}") from exc


def _gateway() -> _Gateway:
    """The gateway of the environment. Raises RewardError naming the variable that is wrong."""
    given, has_key = framework_variable(_URL), framework_variable(_KEY) != ""
    try:
        Address.parse(given, with_query=True)
    except RewardError:
        raise RewardError(
            f"{_URL} is {without_userinfo(given)!r}, and must be the URL of Agent Lightning's gateway, with "
            "http:// or https://"
        ) from None
    url = httpx.URL(given)
    key = key_from_environment(variable=_KEY) if has_key else None
    return _Gateway(str(url.copy_with(raw_path=b"/")), url.raw_path.decode(), key)
