"""Requests to the service: all items in one, or one request per item at once."""

from __future__ import annotations

import asyncio

import aiohttp
import httpx

from reward_client import Item

__all__ = ["body", "post", "post_all", "score"]

RECIPE = "rer-reference"
_HEADERS = {"Content-Type": "application/json"}
HTTP = httpx.Client(timeout=600, headers=_HEADERS)
"""Shared by all requests: creating a client takes tens of milliseconds."""


def body(items: list[Item], recipe: str = RECIPE) -> bytes:
    """The body of a `/score` request."""
    rows = ",".join(item.model_dump_json(exclude_none=True) for item in items)
    return f'{{"items":[{rows}],"recipe":"{recipe}","query_type_default":"open_ended"}}'.encode()


def post(url: str, content: bytes) -> list[float]:
    """The rewards of one `/score` request."""
    reply = HTTP.post(f"{url}/score", content=content)
    reply.raise_for_status()
    rewards: list[float] = reply.json()["rewards"]
    return rewards


def score(url: str, items: list[Item]) -> list[float]:
    """The rewards of `items` in one request, whose body is built here."""
    return post(url, body(items))


def post_all(url: str, bodies: list[bytes]) -> None:
    """Send all `/score` requests at once, each on its own connection."""
    asyncio.run(_post_all(url, bodies))


async def _post_all(url: str, bodies: list[bytes]) -> None:
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=600)

    async def one(session: aiohttp.ClientSession, content: bytes) -> None:
        async with session.post(f"{url}/score", data=content) as reply:
            reply.raise_for_status()
            await reply.read()

    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=_HEADERS) as session:
        await asyncio.gather(*(one(session, content) for content in bodies))
