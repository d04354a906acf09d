"""How a run gets rewards from a service that wants a key: it stands in no command, log, run directory or report.

    GLASSBOX_API_KEY ─▶ launcher ──────── environment() ─▶ OpenRLHF's processes ─ install_hooks()
    --reward.remote_url http://HOST/… ── argv ───────────▶ SingleTurnAgentExecutor(url) ─▶ http://key:SECRET@HOST/…

OpenRLHF's client knows only a URL, and makes HTTP Basic of what stands before the @ in it. So the key is put there
in the rollout engine's memory, when it makes its executor: nothing that OpenRLHF parses, prints or saves has seen
it. The same on CPU and GPUs. Written for openrlhf 0.11.2.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from reward_trainer.openrlhf.bootstrap import REWARD_KEY, with_hook
from reward_trainer.openrlhf.cpu.imports import Patch, install

__all__ = ["basic_auth", "environment", "install_hooks"]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base`, with the hook that adds the key when it holds one."""
    from reward_client.urls import key_from_environment

    return dict(base) if key_from_environment(base) is None else with_hook(base, REWARD_KEY)


def basic_auth() -> tuple[str, str] | None:
    """User and password that OpenRLHF will send; None without a key."""
    from reward_client.urls import key_from_environment

    key = key_from_environment()
    return None if key is None else ("key", key)


def install_hooks() -> None:
    """Prepare this interpreter; nothing is imported before OpenRLHF imports its executor."""
    install(stand_ins={}, patches=_PATCHES)


def _executor_sends_the_key(agent: Any) -> None:
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


_PATCHES: dict[str, Patch] = {"openrlhf.utils.agent": _executor_sends_the_key}
