"""Thousands of rollouts at once: a connection each, none refused, none mixed up.

    one /score request ──▶ rows a second ──▶ n, what the service does in 120 s, at most 4096
    n posts, all at once, as OpenRLHF's client makes them: a session each, 180 s, 5 tries 1 s apart
    another service, unloaded: one /score request of the same n items ──▶ the same rewards?

OpenRLHF's way is that of openrlhf 0.11 (`utils/agent.py`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import islice

import aiohttp
import httpx

from load.plan import Plan
from load.report import Check, Figure, Findings
from load.schedule import spread
from load.service import Service, Watch, raise_descriptor_limit
from load.work import Exchange, fresh, score_body
from tools.demo import say
from tools.held_load import TOLERANCE, difference

__all__ = ["Post", "post_as_openrlhf", "run"]

_LIMIT_S = 120.0
"""Seconds in which the service must be able to do all: below the 180 s after which the client hangs up."""
_TIMEOUT = aiohttp.ClientTimeout(total=180)
_TRIES = 5
_PAUSE_S = 1.0
_PROBE_ROWS = 256
_OTHER_DESCRIPTORS = 500
"""Left for what is no post's connection."""


@dataclass(frozen=True)
class Post:
    """The end of one rollout's post."""

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
                session.post(url, json=exchange.post) as response,
            ):
                response.raise_for_status()
                reply = await response.json()
                return Post(time.monotonic() - started, retries, list(reply["rewards"]))
        except (aiohttp.ClientError, TimeoutError) as exc:
            problem = f"{type(exc).__name__}: {exc}"
        await asyncio.sleep(_PAUSE_S)
    return Post(time.monotonic() - started, _TRIES - 1, [], problem)


@dataclass(frozen=True)
class _Wave:
    """All posts, and what they were sent to."""

    exchanges: list[Exchange]
    posts: list[Post]
    rows_per_s: float
    """Just before, in one request."""
    took_s: float
    watch: Watch


def run(plan: Plan) -> list[Findings]:
    """Post, and compare with what a service says that does nothing else."""
    with Service(plan.folder / "posts.log", "--gold", "none") as service:
        wave = _wave(service, plan)
    with Service(plan.folder / "posts-again.log", "--gold", "none") as service:
        expected = _score(service.url, wave.exchanges)
    done = f"{len(wave.posts)} one-sample posts of OpenRLHF's kind, each on a connection of its own, all at once."
    return [Findings("posts", done, _checks(wave, expected), _figures(wave))]


def _wave(service: Service, plan: Plan) -> _Wave:
    n_descriptors = raise_descriptor_limit()
    rows_per_s = _rows_per_s(service.url, list(islice(fresh("probe"), min(_PROBE_ROWS, plan.max_posts))))
    n = min(plan.max_posts, int(_LIMIT_S * rows_per_s), n_descriptors - _OTHER_DESCRIPTORS)
    exchanges = list(islice(fresh("posts"), n))
    say(f"posts: {n} at once, {rows_per_s:.0f} rows/s before")
    with Watch(service) as watch:
        started = time.monotonic()
        posts = asyncio.run(_post_all(f"{service.url}/get_reward", exchanges))
        took_s = time.monotonic() - started
    return _Wave(exchanges, posts, rows_per_s, took_s, watch)


def _checks(wave: _Wave, expected: list[float]) -> list[Check]:
    posts, n = wave.posts, len(wave.posts)
    wrong = [
        problem
        for post, right in zip(posts, expected, strict=True)
        if (problem := post.problem or difference([right], post.rewards)) is not None
    ]
    retries = sum(post.retries for post in posts)
    right = f"{n - len(wrong)} of {n}" + (f"; the first problem: {wrong[0]}" if wrong else "")
    rule = f"every post gets the one reward that an unloaded service gives (± {TOLERANCE:g})"
    return [
        Check(rule, f"{right}; rewards {min(expected):.3f} – {max(expected):.3f}", not wrong),
        Check("no client asks twice", f"{retries} retries", retries == 0),
    ]


def _figures(wave: _Wave) -> list[Figure]:
    n, watch = len(wave.posts), wave.watch
    return [
        Figure("rows/s of one request, just before", f"{wave.rows_per_s:.1f}"),
        Figure("rows/s of the posts", f"{n / wave.took_s:.1f}, all answered after {wave.took_s:.1f} s"),
        Figure("time to answer: p50, p99, longest", spread([post.seconds for post in wave.posts])),
        Figure("resident memory: before, at most", watch.memory),
        Figure("open descriptors: before, at most", f"{watch.samples[0].descriptors}, {watch.max_descriptors}"),
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
