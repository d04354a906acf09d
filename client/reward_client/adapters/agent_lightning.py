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
from typing import Any

import httpx

from reward_client.adapters.samples import Sample
from reward_client.adapters.scorer import Scored, rewards, scorer_of
from reward_client.adapters.settings import AdapterSettings, framework_variable
from reward_client.client import RewardClient
from reward_client.errors import RewardError

_SEND_S = 60.0
"""Seconds to report a reward, with retries; a reward that is reported twice counts once."""


def report(prompt: Any, response: Any, reference: Any = None, query_type: Any = None, **settings: Any) -> float:
    """Report the reward of `response`, with its features, and return it. Raises RewardError.

    `settings` are those of `AdapterSettings`; those not given come from the environment.
    """
    scorer = scorer_of(AdapterSettings.load(**settings))
    (scored,) = scorer.score([Sample(prompt, response, reference, query_type)])
    (reward,) = rewards([scored])
    _send(_event(reward, scored))
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


def _send(event: dict[str, Any]) -> None:
    url = httpx.URL(framework_variable("AGL_EVENT_URL"))
    path = url.raw_path.decode()
    key = framework_variable("AGL_KEY") or None
    try:
        with RewardClient(str(url.copy_with(raw_path=b"/")), api_key=key, deadline_s=_SEND_S) as gateway:
            gateway.post(path, json.dumps(event).encode())
    except RewardError as exc:
        raise RewardError(f"Agent Lightning's gateway did not take the reward: {exc}") from exc
