"""Stalls of the event loop while the service answers one large legal request.

    python -m benchmarks.event_loop_stall [--items 4096] [--mib 30] [--repeats 3]

The service runs in this process, with stand-in models that cost nothing, on the event loop of the benchmark. A
probe on the same loop sleeps for one millisecond at a time; what it sleeps longer is a stall: time in which no
other request is read, answered or refused. The client runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import uvloop

from reward_service.app import create_app
from reward_service.batching import BatchLimits
from reward_service.models.protocols import Embeddings, Exchange, RawText, Tokens
from reward_service.process.server import server_for
from reward_service.settings import Settings

_PROBE_S = 0.001
_LIMITS = BatchLimits(max_tokens=100_000, max_items=64)
_CLIENT = """
import sys, httpx
body = open(sys.argv[2], "rb").read()
answer = httpx.post(sys.argv[1], content=body, timeout=120, headers={"content-type": "application/json"})
answer.raise_for_status()
assert len(answer.json()["rewards"]) == int(sys.argv[3])
"""


class _Encoder:
    id, revision, device, backend, limits = "stand-in", "0", "cpu", "none", _LIMITS

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        return [Tokens(list(hashlib.blake2b(text.encode()).digest())) for text in texts]

    def embed(self, batch: Sequence[Tokens]) -> Embeddings:
        return np.ones((len(batch), 384), dtype=np.float32)


class _Gold:
    id, revision, device, backend, limits = "stand-in", "0", "cpu", "none", _LIMITS
    notices: tuple[str, ...] = ()
    encoder_base: str | None = None

    def tokenize(self, exchange: Exchange) -> Tokens:
        return Tokens(list(hashlib.blake2b(exchange.response.encode()).digest()))

    def tokenize_text(self, text: RawText) -> Tokens:
        return Tokens(list(hashlib.blake2b(text.text.encode()).digest()))

    def score(self, batch: Sequence[Tokens]) -> list[float]:
        return [0.5] * len(batch)


def body(name: str, n_items: int, n_bytes: int) -> bytes:
    """A request of about `n_bytes` whose texts are all different."""
    words = "word " * (n_bytes // n_items // 2 // 5 - 12)
    items = [{"prompt": f"{name} {n} {words}", "response": f"{n * 7} {name} {words}"} for n in range(n_items)]
    return json.dumps({"items": items, "gold": True}).encode()


async def measure(n_items: int, n_bytes: int, repeats: int) -> tuple[list[float], float]:
    """Stalls in milliseconds, longest first, while `repeats` requests are answered; seconds of the fastest one."""
    app = create_app(Settings(port=0), encoder_loader=lambda _: _Encoder(), gold_loader=lambda _: _Gold())
    server = server_for(app, Settings(port=0))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/score"
    stalls: list[float] = []
    fastest = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):
            path = Path(folder) / f"{number}.json"
            await asyncio.to_thread(path.write_bytes, body(f"request {number}", n_items, n_bytes))
            probe = asyncio.create_task(_probe(stalls))
            started = time.perf_counter()
            client = await asyncio.create_subprocess_exec(sys.executable, "-c", _CLIENT, url, path, str(n_items))
            if await client.wait():
                raise SystemExit("the request failed")
            fastest = min(fastest, time.perf_counter() - started)
            probe.cancel()
    server.should_exit = True
    await serving
    return sorted(stalls, reverse=True), fastest


async def _probe(stalls: list[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_PROBE_S)
        stalls.append((time.perf_counter() - before - _PROBE_S) * 1e3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.event_loop_stall", description=__doc__)
    parser.add_argument("--items", type=int, default=4096)
    parser.add_argument("--mib", type=float, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    gc.collect()
    gc.freeze()  # as the service does at start
    stalls, fastest = uvloop.run(measure(arguments.items, int(arguments.mib * 2**20), arguments.repeats))
    print(f"{arguments.items} items, {arguments.mib:g} MiB, answered in {fastest:.2f} s at best")
    print("longest stalls: " + ", ".join(f"{stall:.1f}" for stall in stalls[:8]) + " ms")
    print(f"p99 {stalls[len(stalls) // 100]:.1f} ms of {len(stalls)} probes")


if __name__ == "__main__":
    main()
