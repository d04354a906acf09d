"""Gold models of two sizes: the service's batches, plain Transformers one by one, a server without batching."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from reward_client import Item
from reward_client.network import free_port
from reward_service.models.cuda import pack, unpack
from reward_service.models.gold import HfGoldModel
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Tokens
from tools.gpu_check.gold_models import SIZES, built
from tools.gpu_check.peak import products_flops
from tools.gpu_check.plain import plain_scores, random_rows
from tools.gpu_check.service import posts, serving, single_bodies, started
from tools.gpu_check.setting import Setting
from tools.gpu_check.texts import batches, exchanges, items
from tools.gpu_check.timing import median_s, seconds
from tools.processes import server


def run(setting: Setting) -> None:
    """Without a server, then over HTTP, the smaller model first."""
    for name in setting.size(list(SIZES), ["0.1 B"]):
        folder = built(name, setting.scratch, setting.device, small=setting.small)
        work = items(setting.size(128, 4), seed=5, words=setting.size(100, 20))
        one_by_one = _bare(setting, name, folder, work)
        _over_http(setting, name, folder, work, one_by_one)


def _bare(setting: Setting, name: str, folder: Path, work: Sequence[Item]) -> float:
    """Measure without a server; the seconds that plain Transformers needs for `work`, one by one."""
    gold = load_gold(str(folder), setting.device)
    assert isinstance(gold, HfGoldModel)  # noqa: S101 - for mypy
    asked = exchanges(work)
    dtype = torch.bfloat16 if setting.device == "cuda" else torch.float32
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).to(setting.device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first = seconds(lambda: plain_scores(model, tokenizer, asked, 4096), setting.device)
    plain = seconds(lambda: plain_scores(model, tokenizer, asked, 4096), setting.device)
    setting.note(
        f"gold {name}, plain one by one: first time ÷ second, in time", first / plain, note=f"{first:.2f} s"
    )
    read = [gold.tokenize(exchange) for exchange in asked]
    tokens = sum(map(len, read))
    formed = batches(read, gold.limits)
    taken = median_s(lambda: [gold.score(batch) for batch in formed], setting.device, rounds=3, warm_up=1)
    reading = seconds(lambda: [gold.tokenize(exchange) for exchange in asked], setting.device)
    said = (
        f"{len(read)} texts, {tokens} tokens, {len(formed)} batches: {plain:.2f} s against {taken + reading:.3f} s"
    )
    setting.note(f"gold {name}, bare: batches ÷ plain one by one, in speed", plain / (taken + reading), note=said)
    setting.note(f"gold {name}: reading, of reading and judging", 100 * reading / (reading + taken), "%")
    _shapes(setting, name, gold, model)
    return plain


def _shapes(setting: Setting, name: str, gold: HfGoldModel, model: Any) -> None:
    """Batch shapes beside the products' peak; and what it gains that causal models are given no mask."""
    weights = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n)
    peak = products_flops("bf16" if setting.device == "cuda" else "fp32", setting.device, setting.size(8192, 128))
    for rows, width in setting.size([(4, 512), (16, 512), (32, 512), (64, 512), (8, 2048)], [(2, 16)]):
        batch = random_rows(rows, [width, width * 3 // 4])
        tokens = sum(map(len, batch))
        taken = median_s(partial(gold.score, batch), setting.device, rounds=5)
        said = f"{tokens / taken:,.0f} tokens/s, {1e3 * taken:.1f} ms"
        share = 2.0 * weights * rows * width / taken / peak
        setting.note(f"gold {name}, {rows} × {width}: of the products' peak", 100 * share, "%", said)
        _with_mask(setting, f"gold {name}, {rows} × {width}", gold, model, batch)


def _with_mask(setting: Setting, name: str, gold: HfGoldModel, model: Any, batch: Sequence[Tokens]) -> None:
    inputs = unpack(pack(batch, 3).to(setting.device))
    with torch.inference_mode():
        with_mask = median_s(lambda: model(**inputs).logits, setting.device, rounds=5)
        without = median_s(lambda: gold.logits(inputs), setting.device, rounds=5)
        masked = model(**inputs).logits[:, 0].float()
        apart = float((masked - gold.logits(inputs).float()).abs().max())
    said = f"{1e3 * without:.1f} ms against {1e3 * with_mask:.1f}; scores {apart:.2g} apart"
    setting.note(f"{name}: the service's pass ÷ one with a mask, in speed", with_mask / without, note=said)


def _over_http(setting: Setting, name: str, folder: Path, work: Sequence[Item], one_by_one: float) -> None:
    asked = exchanges(work)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    theirs = [
        json.dumps({"query": [tokenizer.apply_chat_template(_turns(exchange), tokenize=False)]}).encode()
        for exchange in asked
    ]
    service = serving(setting, "--encoder", "none", "--gold", str(folder))
    with ExitStack() as stack:
        their_url, our_url = started(stack, _one_at_a_time(setting, folder), service)
        scores, their_s = _asked(f"{their_url}/get_reward", theirs)
        replies, our_s = _asked(f"{our_url}/score", single_bodies(work, "gold"))
    told = [score["rewards"][0] for score in scores]
    ours = [reply["rewards"][0] for reply in replies]
    apart = max(abs(a - b) for a, b in zip(told, ours, strict=True))
    said = f"{len(work)} posts: {their_s:.2f} s against {our_s:.2f} s; scores {apart:.2g} apart"
    setting.note(f"gold {name}, HTTP, one-item posts: service ÷ no batches, in speed", their_s / our_s, note=said)
    setting.note(f"gold {name}: service over HTTP ÷ plain one by one, bare, in speed", one_by_one / our_s)


def _turns(exchange: Any) -> list[dict[str, Any]]:
    return [
        *(turn.model_dump() for turn in exchange.messages),
        {"role": "assistant", "content": exchange.response},
    ]


def _asked(url: str, bodies: Sequence[bytes]) -> tuple[list[Any], float]:
    """The replies, and the best time of three rounds after a warm-up."""
    posts(url, bodies[:4])
    best, replies = float("inf"), []
    for _ in range(3):
        started = time.perf_counter()
        replies = posts(url, bodies)
        best = min(best, time.perf_counter() - started)
    return replies, best


@contextmanager
def _one_at_a_time(setting: Setting, folder: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "tools.gpu_check.one_at_a_time", str(folder), setting.device, str(port)]
    url = f"http://127.0.0.1:{port}"
    with server(command, f"{url}/readyz", setting.scratch / "one_at_a_time.log"):
        yield url
