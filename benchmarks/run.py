"""make bench: what the service adds to its encoder, each figure a ratio within one run.

    HTTP ÷ bare      rows a second of one 256-item request, over those of the bare encoder on the same unique
                     texts (same process settings, sorted by length, no HTTP, no reward)
    singles ÷ batch  rows a second of 256 concurrent one-item requests, over those of one 256-item request

The two sides of a ratio run in turn, several times; the table has median and range. Results go to
benchmarks/RESULTS.md with machine, versions and date. Work: 32 prompts of our own × 8 responses of real lengths.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from scripts.demo import service

from benchmarks.work import ITEMS, unique_texts
from reward_client import AsyncRewardClient, Item, RewardClient
from reward_service.models.encoder import load_encoder
from reward_service.settings import EMBEDDED_ENCODER

PAIRS = 5
RESULTS = Path(__file__).parent / "RESULTS.md"


def seconds(action: Callable[[], object]) -> float:
    """How long `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def paired_ratio(a: Callable[[], object], b: Callable[[], object]) -> list[float]:
    """Speed of `a` over speed of `b`, measured in turn, after one run of each that does not count."""
    a(), b()
    return [1 / (seconds(a) / seconds(b)) for _ in range(PAIRS)]


async def one_by_one(url: str, items: list[Item]) -> None:
    """Each item in a request of its own, all at once."""
    async with AsyncRewardClient(url) as client:
        await asyncio.gather(*(client.score([item]) for item in items))


def measure(url: str) -> dict[str, list[float]]:
    """All ratios."""
    encoder = load_encoder(EMBEDDED_ENCODER)
    texts = unique_texts(ITEMS)
    with RewardClient(url) as client:

        def batch() -> object:
            return client.score(ITEMS)

        return {
            "HTTP ÷ bare": paired_ratio(batch, lambda: encoder.embed(texts)),
            "singles ÷ batch": paired_ratio(lambda: asyncio.run(one_by_one(url, ITEMS)), batch),
        }


def report(ratios: dict[str, list[float]]) -> str:
    """The figures as Markdown."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "sentence-transformers"))
    rows = [
        f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} – {max(values):.2f} |"
        for name, values in ratios.items()
    ]
    return "\n".join(
        [
            "# Benchmark results",
            "",
            f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} torch threads; {libraries}. {len(ITEMS)} items, {PAIRS} pairs in turn.",
            "What each ratio compares stands at the top of `benchmarks/run.py`; `make bench` writes this file.",
            "",
            "| ratio | median | range |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Measure, print, write."""
    log = Path(os.environ.get("TMPDIR", "/tmp")) / "glassbox-bench-service.log"  # noqa: S108 (a log)
    with service(log, "--gold", "none") as url:
        text = report(measure(url))
    RESULTS.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
