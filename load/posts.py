"""Thousands of rollouts at once, each on its own connection: all are scored, and all rewards are right.

    one /score request ──▶ rows per second ──▶ n: what the service does in 120 s, at most 4096
    n posts, all at once, as OpenRLHF's client sends them: a session each, 180 s, 5 tries 1 s apart
    another, unloaded service: one /score request of the same n items ──▶ the same rewards?

OpenRLHF's behaviour is that of openrlhf 0.11 (`utils/agent.py`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import islice

import aiohttp
import httpx

from load.exchanges import Exchange, generate, score_body
from load.plan import Plan
from load.report import Check, Figure, Findings
from load.schedule import percentiles
from load.service import Service, UsageSampler, raise_descriptor_limit
from tools.console import log
from tools.load_clients import TOLERANCE, reward_difference

__all__ = ["Post", "post_as_openrlhf", "run"]

_LIMIT_S = 120.0
"""Seconds within which the service must be able to score all posts: below the client's timeout of 180 s."""
_TIMEOUT = aiohttp.ClientTimeout(total=180)
_TRIES = 5
_PAUSE_S = 1.0
_PROBE_ROWS = 256
_OTHER_DESCRIPTORS = 500
"""Descriptors reserved for everything but the connections of the posts."""


@dataclass(frozen=True)
class Post:
    """The outcome of one rollout's post."""

    seconds: float
    retries: int
    rewards: list[float]
    problem: str | None = None
    """Why the last try failed, when all of them did."""


async def post_as_openrlhf(url: str, exchange: Exchange) -> Post:
    """Post one rollout."""
    started, problem = time.monotonic(), ""
    for retries in range(_TRIES):
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.post(url, json=exchange.openrlhf_body) as response,
            ):
                response.raise_for_status()
                reply = await response.json()
                return Post(time.monotonic() - started, retries, list(reply["rewards"]))
        except (aiohttp.ClientError, TimeoutError) as exc:
            problem = f"{type(exc).__name__}: {exc}"
        await asyncio.sleep(_PAUSE_S)
    return Post(time.monotonic() - started, _TRIES - 1, [], problem)


@dataclass(frozen=True)
class _Burst:
    """All posts and their measurements."""

    exchanges: list[Exchange]
    posts: list[Post]
    rows_per_s: float
    """Measured before, in one request."""
    took_s: float
    usage: UsageSampler


def run(plan: Plan) -> list[Findings]:
    """Post everything, and compare with the rewards of an unloaded service."""
    with Service(plan.folder / "posts.log", "--gold", "none") as service:
        burst = _burst(service, plan)
    with Service(plan.folder / "posts-again.log", "--gold", "none") as service:
        expected = _score(service.url, burst.exchanges)
    done = f"{len(burst.posts)} one-item posts as OpenRLHF sends them, each on its own connection, all at once."
    return [Findings("posts", done, _checks(burst, expected), _figures(burst))]


def _burst(service: Service, plan: Plan) -> _Burst:
    n_descriptors = raise_descriptor_limit()
    rows_per_s = _rows_per_s(service.url, list(islice(generate("probe"), min(_PROBE_ROWS, plan.max_posts))))
    n = min(plan.max_posts, int(_LIMIT_S * rows_per_s), n_descriptors - _OTHER_DESCRIPTORS)
    exchanges = list(islice(generate("posts"), n))
    log(f"posts: {n} at once, {rows_per_s:.0f} rows/s before")
    with UsageSampler(service) as usage:
        started = time.monotonic()
        posts = asyncio.run(_post_all(f"{service.url}/get_reward", exchanges))
        took_s = time.monotonic() - started
    return _Burst(exchanges, posts, rows_per_s, took_s, usage)


def _checks(burst: _Burst, expected: list[float]) -> list[Check]:
    posts, n = burst.posts, len(burst.posts)
    wrong = [
        problem
        for post, right in zip(posts, expected, strict=True)
        if (problem := post.problem or reward_difference([right], post.rewards)) is not None
    ]
    retries = sum(post.retries for post in posts)
    right = f"{n - len(wrong)} of {n}" + (f"; the first problem: {wrong[0]}" if wrong else "")
    rule = f"every post gets the one reward that an unloaded service returns (± {TOLERANCE:g})"
    return [
        Check(rule, f"{right}; rewards {min(expected):.3f} – {max(expected):.3f}", not wrong),
        Check("no client retries", f"{retries} retries", retries == 0),
    ]


def _figures(burst: _Burst) -> list[Figure]:
    n, usage = len(burst.posts), burst.usage
    return [
        Figure("rows/s of one request, just before", f"{burst.rows_per_s:.1f}"),
        Figure("rows/s of the posts", f"{n / burst.took_s:.1f}, all scored after {burst.took_s:.1f} s"),
        Figure("request duration: p50, p99, maximum", percentiles([post.seconds for post in burst.posts])),
        Figure("resident memory: before, peak", usage.memory),
        Figure("open descriptors: before, peak", f"{usage.samples[0].descriptors}, {usage.max_descriptors}"),
    ]


def _rows_per_s(url: str, exchanges: list[Exchange]) -> float:
    started = time.monotonic()
    _score(url, exchanges)
    return len(exchanges) / (time.monotonic() - started)


def _score(url: str, exchanges: list[Exchange]) -> list[float]:
    reply = httpx.post(f"{url}/score", content=score_body(exchanges), timeout=600).raise_for_status()
    rewards: list[float] = reply.json()["rewards"]
    return rewards


async def _post_all(url: str, exchanges: list[Exchange]) -> list[Post]:
    return list(await asyncio.gather(*(post_as_openrlhf(url, exchange) for exchange in exchanges)))
