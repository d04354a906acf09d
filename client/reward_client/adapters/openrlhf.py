"""OpenRLHF: `reward_func` in a file, instead of the service's URL.

    --reward.remote_url "$(python -m reward_client.adapters.openrlhf)"          prints the path of this file

OpenRLHF loads the file in its rollout engines. Against the URL form it adds: the key stays in the environment, an
outage may last `deadline_s` instead of five seconds, and several URLs are tried in turn. The service parses the
chat template in both. An error leaves the sample without a reward, and OpenRLHF then ends the run.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from reward_client.adapters.samples import plain
from reward_client.adapters.settings import AdapterSettings
from reward_client.client import RewardClient
from reward_client.errors import RewardError

_log = logging.getLogger(__name__)


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]) -> dict[str, Any]:
    """Rewards, scores and extra_logs of rendered prompts with their responses. Raises RewardError.

    OpenRLHF reports an exception in one line of its log, as information; so it is logged as an error here.
    """
    sent = {"query": list(queries), "prompts": list(prompts), "labels": list(labels)}
    try:
        body = json.dumps(sent, default=plain).encode()
        return _checked(_client().post(_route(_settings()), body), len(queries))
    except Exception as exc:
        _log.error("no reward, so OpenRLHF ends this run: %s", exc)
        raise


@cache
def _settings() -> AdapterSettings:
    """Read at the first call, so that loading the file has no effects."""
    return AdapterSettings.load()


@cache
def _client() -> RewardClient:
    """One for each rollout engine, whose threads share it."""
    return RewardClient(_settings().url, **_settings().client_options)


def _route(settings: AdapterSettings) -> str:
    """The route of OpenRLHF's protocol, with the options that its body has no fields for."""
    given = settings.options
    run = given.pop("run")
    given["gold"] = "true" if given["gold"] else None
    given["query_type_default"] = settings.query_type_default  # also `error`: the route's own default is another
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return f"{f'/r/{quote(run)}' if run else ''}/get_reward?{query}"


def _checked(body: bytes, n_rewards: int) -> dict[str, Any]:
    """The reply, if it has one finite reward for each query. Raises RewardError."""
    reply = json.loads(body)
    rewards = reply.get("rewards") if isinstance(reply, dict) else None
    if not isinstance(rewards, list) or len(rewards) != n_rewards or not all(map(_finite, rewards)):
        raise RewardError(f"the service did not reply with {n_rewards} finite rewards: {body[:300]!r}")
    return reply  # type: ignore[no-any-return]  # checked above


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


if __name__ == "__main__":
    print(__file__)  # noqa: T201
