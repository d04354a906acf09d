"""The service over HTTP and the encoder alone, one request and many, and a request of 4,096 items."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import httpx

from reward_service.models.encoder import load_encoder
from reward_service.settings import EMBEDDED_ENCODER
from tools.gpu_check.service import gets, one_post, posts, serving, single_bodies, started
from tools.gpu_check.setting import Setting
from tools.gpu_check.texts import batches, items, unique_texts

RECIPE = "rer-reference"
ROUNDS = 3


def run(setting: Setting) -> None:
    """Both formats that are worth having, fp32, which keeps parity, and bf16; and the latter on few cores."""
    precisions = setting.size(("fp32", "bf16"), ("fp32",))
    few = setting.size((2, 4), (1,))
    with ExitStack() as stack:
        services = [_service(setting, precision) for precision in precisions]
        services += [_service(setting, precisions[-1], cores) for cores in few]
        urls = started(stack, *services)
        for url, precision in zip(urls, precisions, strict=False):
            _latency(setting, url, precision)
            _one_and_many(setting, url, precision)
            _against_bare(setting, url, precision)
        for url, cores in zip(urls[len(precisions) :], few, strict=True):
            _one_and_many(setting, url, f"{precisions[-1]}, service on {cores} cores")


def _service(setting: Setting, precision: str, cores: int | None = None) -> AbstractContextManager[str]:
    return serving(setting, "--gold", "none", "--precision", precision, cores=cores)


def _against_bare(setting: Setting, url: str, precision: Any) -> None:
    encoder = load_encoder(EMBEDDED_ENCODER, setting.device, precision=precision)
    for n in setting.size((256, 4096), (8,)):
        bare, asked, replies = [], [], []
        for seed in range(-1, ROUNDS):
            work = items(n, seed=100 * n + seed)
            texts = unique_texts(work)
            _, bare_s = _timed(partial(_embed, encoder, texts))
            reply, asked_s = _timed(partial(one_post, url, work, RECIPE))
            if seed >= 0:
                bare.append(bare_s)
                asked.append(asked_s)
                replies.append(reply["timing_ms"])
        _note(setting, f"{precision}, one post of {n}", n, bare, asked, replies)


def _note(
    setting: Setting, name: str, n: int, bare: list[float], asked: list[float], replies: list[dict[str, float]]
) -> None:
    ratio = statistics.median(b / a for a, b in zip(asked, bare, strict=True))
    middle = statistics.median(asked)
    said = (
        f"{1e3 * statistics.median(bare):.0f} ms bare, {1e3 * middle:.0f} ms over HTTP, {n / middle:,.0f} items/s"
    )
    setting.note(f"{name}: HTTP ÷ bare tokenizer and encoder, in speed", ratio, note=said)
    passes = statistics.median(reply["encode"] for reply in replies)
    total = statistics.median(reply["total"] for reply in replies)
    queue = statistics.median(reply["queue"] for reply in replies)
    said = f"{passes:.1f} ms passes, {queue:.1f} ms until the first began, {total:.1f} ms in the scorer"
    setting.note(f"{name}: forward passes, of the whole time", 100 * passes / (1e3 * middle), "%", said)


def _one_and_many(setting: Setting, url: str, precision: str) -> None:
    n = setting.size(256, 8)
    whole, single = [], []
    for seed in range(-1, ROUNDS):
        _, whole_s = _timed(partial(one_post, url, items(n, seed=9000 + seed), RECIPE))
        bodies = single_bodies(items(n, seed=9500 + seed), RECIPE)
        _, single_s = _timed(partial(posts, f"{url}/score", bodies))
        if seed >= 0:
            whole.append(whole_s)
            single.append(single_s)
    _, bare_s = _timed(partial(gets, f"{url}/healthz", n))
    said = "what HTTP and the client alone take of the posts' time"
    setting.note(f"{precision}, {n} GETs of /healthz at once", 1e3 * bare_s, "ms", said)
    passes = _passes(url)
    posts(f"{url}/score", single_bodies(items(n, seed=9900), RECIPE))
    setting.note(f"{precision}, {n} one-item posts: passes that they took", _passes(url) - passes)
    ratio = statistics.median(w / s for w, s in zip(whole, single, strict=True))
    said = f"{1e3 * statistics.median(single):.0f} ms against {1e3 * statistics.median(whole):.0f}"
    setting.note(f"{precision}, {n} one-item posts ÷ one post of {n}, in speed", ratio, note=said)


def _latency(setting: Setting, url: str, precision: str) -> None:
    """One item at a time, on an idle service."""
    bodies = single_bodies(items(setting.size(30, 4), seed=9700), RECIPE)
    with httpx.Client() as client:
        client.post(f"{url}/score", content=bodies[0]).raise_for_status()
        taken, passes = [], []
        for content in bodies[1:]:
            reply, spent = _timed(partial(client.post, f"{url}/score", content=content))
            taken.append(spent)
            passes.append(reply.raise_for_status().json()["timing_ms"]["encode"])
    said = f"{statistics.median(passes):.2f} ms of it the pass"
    setting.note(f"{precision}, one item, nothing else asked", 1e3 * statistics.median(taken), "ms", said)


def _passes(url: str) -> float:
    """Forward passes of the encoder since the service began."""
    text = httpx.get(f"{url}/metrics").text
    found = re.search(r'^glassbox_batch_items_count\{model="encoder"\} (\S+)$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("the service does not count its batches")
    return float(found[1])


def _embed(encoder: Any, texts: list[str]) -> None:
    for batch in batches(encoder.tokenize(texts), encoder.limits):
        encoder.embed(batch)


def _timed(action: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    found = action()
    return found, time.perf_counter() - started
