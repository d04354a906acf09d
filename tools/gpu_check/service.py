"""The service as a child process on the device, and requests as trainers send them."""

from __future__ import annotations

import asyncio
import os
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

TIMEOUT = aiohttp.ClientTimeout(total=120)


@contextmanager
def serving(setting: Setting, *options: str, cores: int | None = None) -> Iterator[str]:
    """The service, ready, on the setting's device; its URL. It may keep no vectors: each text costs its pass.

    `cores` is how many of the machine's it may use; None is all.
    """
    allowed = os.sched_getaffinity(0)
    log = setting.scratch / f"service-{uuid.uuid4().hex[:8]}.log"
    limits = ("--cache-bytes", "0", "--supervise", "false")
    try:
        os.sched_setaffinity(0, sorted(allowed)[:cores])  # this thread's, which its children inherit
        with reward_service(log, "--device", setting.device, *limits, *options) as url:
            os.sched_setaffinity(0, allowed)
            yield url
    except SystemExit as exc:
        raise RuntimeError(str(exc)) from None


def started(stack: ExitStack, *servers: AbstractContextManager[str]) -> list[str]:
    """Start `servers` at the same time; `stack` stops them. Their URLs."""
    with ThreadPoolExecutor(len(servers)) as pool:
        return list(pool.map(stack.enter_context, servers))


def single_bodies(of: Sequence[Item], recipe: str) -> list[bytes]:
    """One request body per item."""
    return [body([item], recipe) for item in of]


def posts(url: str, bodies: Sequence[bytes]) -> list[Any]:
    """All of `bodies` at once, one connection each, as rollouts post; the replies, in order."""
    return asyncio.run(_all("POST", url, bodies))


def gets(url: str, n: int) -> list[Any]:
    """`n` GETs at once; the replies."""
    return asyncio.run(_all("GET", url, [None] * n))


async def _all(method: str, url: str, bodies: Sequence[bytes | None]) -> list[Any]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=TIMEOUT, connector=connector) as session:

        async def ask(content: bytes | None) -> Any:
            headers = {"Content-Type": "application/json"}
            async with session.request(method, url, data=content, headers=headers) as reply:
                reply.raise_for_status()
                return await reply.json()

        return await asyncio.gather(*map(ask, bodies))


def one_post(url: str, of: Sequence[Item], recipe: str) -> Any:
    """Send all items in one request; the reply."""
    [reply] = posts(f"{url}/score", [body(list(of), recipe)])
    return reply
