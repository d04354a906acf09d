"""Sends the API key with OpenRLHF's reward requests; no command line, log, run directory or report contains it.

    GLASSBOX_API_KEY ─▶ launcher ──────── environment() ─▶ OpenRLHF's processes ─ install_hooks()
    --reward.remote_url http://HOST/… ── argv ───────────▶ SingleTurnAgentExecutor(url) ─▶ http://key:SECRET@HOST/…

OpenRLHF's client takes only a URL, and sends user and password in it as HTTP Basic. The hook adds the key to the
URL in the memory of the rollout engine, when the executor is created: OpenRLHF never parses, prints or saves it.
CPU and GPUs work the same way. Written for openrlhf 0.11.2.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from reward_trainer.openrlhf import import_hook
from reward_trainer.openrlhf.environment import API_KEY_HOOK, with_hook


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base`, with the hook that sends the key if `base` contains one."""
    from reward_client.urls import key_from_environment

    return dict(base) if key_from_environment(base) is None else with_hook(base, API_KEY_HOOK)


def install_hooks() -> None:
    """Patch OpenRLHF's executor when it is imported; imports nothing itself."""
    import_hook.install(stand_ins={}, patches={"openrlhf.utils.agent": _send_key})


def _send_key(agent: Any) -> None:
    from reward_client.urls import Address, ApiKey, key_from_environment

    secret = key_from_environment(os.environ)
    if secret is None:
        return
    key = ApiKey(secret)
    real_init = agent.SingleTurnAgentExecutor.__init__

    def init(self: Any, remote_rm_url: str | Sequence[str] | None = None) -> None:
        urls = [remote_rm_url] if isinstance(remote_rm_url, str) else list(remote_rm_url or [])
        real_init(self, [Address(url, key).with_key() if "://" in url else url for url in urls])

    agent.SingleTurnAgentExecutor.__init__ = init
