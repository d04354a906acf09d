"""The service as a child process on the device, and requests as trainers send them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import aiohttp

from benchmarks.requests import body
from reward_client import Item
from tools.gpu_check.setting import Setting
from tools.processes import reward_service

__all__ = ["one_post", "posts", "serving", "single_bodies", "started"]

TIMEOUT = aiohttp.ClientTimeout(total=120)


@contextmanager
def serving(setting: Setting, *options: str) -> Iterator[str]:
    """Run the service on the setting's device without a vector cache; its URL."""
    log = setting.scratch / f"service-{uuid.uuid4().hex[:8]}.log"
    limits = ("--cache-bytes", "0", "--supervise", "false")
    with reward_service(log, "--device", setting.device, *limits, *options) as url:
        yield url


def started(stack: ExitStack, *servers: AbstractContextManager[str]) -> list[str]:
    """Start `servers` at the same time; `stack` stops them. Their URLs."""
    with ThreadPoolExecutor(len(servers)) as pool:
        return list(pool.map(stack.enter_context, servers))


def single_bodies(of: Sequence[Item], recipe: str) -> list[bytes]:
    """One request body per item."""
    return [body([item], recipe) for item in of]


def posts(url: str, bodies: Sequence[bytes]) -> list[Any]:
    """Send all `bodies` at once, each on its own connection, as rollouts do; the replies in order."""
    return asyncio.run(_posts(url, bodies))


async def _posts(url: str, bodies: Sequence[bytes]) -> list[Any]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=TIMEOUT, connector=connector) as session:

        async def ask(content: bytes) -> Any:
            headers = {"Content-Type": "application/json"}
            async with session.post(url, data=content, headers=headers) as reply:
                reply.raise_for_status()
                return await reply.json()

        return await asyncio.gather(*map(ask, bodies))


def one_post(url: str, of: Sequence[Item], recipe: str) -> Any:
    """Send all items in one request; the reply."""
    [reply] = posts(f"{url}/score", [body(list(of), recipe)])
    return reply
