"""Profile: the stages of a request of 4,096 items in sequence, and the kernels of a forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.requests import body
from reward_client import Item
from reward_client.wire import ItemResult, ModelNames, RecipeName, ScoreReply, ScoreRequest, TextCounts, TimingMs
from reward_service.batching import complete
from reward_service.features.builtin import length_incentive
from reward_service.features.repetition import word_repetition
from reward_service.features.text import words
from reward_service.models.cuda import pack
from reward_service.models.encoder import SentenceEncoder, load_encoder
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Tokens
from reward_service.scoring.embedding import Embedder, VectorCache, embed
from reward_service.settings import EMBEDDED_ENCODER
from tools.gpu_check.gold_models import built
from tools.gpu_check.plain import random_rows
from tools.gpu_check.setting import Setting
from tools.gpu_check.texts import batches, items, unique_texts
from tools.gpu_check.timing import median_s

KINDS = {
    "products": ("gemm", "cutlass", "xmma", "nvjet", "mm", "linear"),
    "attention": ("fmha", "flash", "attention", "softmax"),
    "copies": ("memcpy", "memset", "copy"),
    "norms": ("norm",),
}
"""Kinds of kernels by parts of their names, in order; all others are elementwise."""


def run(setting: Setting) -> None:
    """Stages in bf16, then kernels of the encoder and of the larger gold model."""
    _stages(setting)
    for precision in setting.precisions:
        encoder = load_encoder(EMBEDDED_ENCODER, setting.device, precision=precision)
        shape = setting.size((1024, 64), (4, 16))
        batch = random_rows(shape[0], [shape[1], shape[1] // 2])
        _kernels(setting, f"encoder {precision}, {shape[0]} × {shape[1]}", partial(encoder.embed, batch))
    folder = built("0.6 B", setting.scratch, setting.device, small=setting.small)
    gold = load_gold(str(folder), setting.device)
    rows = random_rows(setting.size(32, 2), setting.size([512, 384], [16, 12]))
    _kernels(setting, "gold 0.6 B, 32 × 512", partial(gold.score, rows))


def _stages(setting: Setting) -> None:
    n = setting.size(4096, 16)
    work = items(n, seed=6)
    encoder = load_encoder(EMBEDDED_ENCODER, setting.device, precision="bf16")
    texts = unique_texts(work)
    rows = encoder.tokenize(texts)
    formed = batches(rows, encoder.limits)
    content = body(work, "rer-reference")
    stages = {
        "JSON to items": lambda: ScoreRequest.model_validate_json(content),
        "words, LI and RP": lambda: [_features(item.response) for item in work],
        "tokenizing, all cores": lambda: encoder.tokenize(texts),
        "tokens, keys and look-up": lambda: complete(Embedder(None, VectorCache(0)).look_up(encoder, texts)),  # type: ignore[arg-type]
        "forming batches": lambda: batches(rows, encoder.limits),
        "passes, copies included": lambda: [encoder.embed(batch) for batch in formed],
        "keeping vectors": lambda: _keep(encoder, formed[0], len(texts)),
        "reply to JSON": lambda: _reply(work).model_dump_json(),
    }
    if setting.device == "cuda":
        stages["tables in pinned memory"] = lambda: [pack(batch, 0, pinned=True) for batch in formed]
    for name, action in stages.items():
        taken = median_s(action, setting.device, rounds=3, warm_up=1)
        setting.note(f"one request of {n} items, bf16: {name}", 1e3 * taken, "ms")


def _features(response: str) -> float:
    counted = words(response)
    return length_incentive(counted) * word_repetition(counted)


def _keep(encoder: SentenceEncoder, batch: Sequence[Tokens], n: int) -> None:
    cache = VectorCache(2**28)
    [vector] = embed(encoder, batch[:1])
    for key in range(n):
        cache.put(key, vector)


def _reply(work: Sequence[Item]) -> ScoreReply:
    return ScoreReply(
        rewards=[1.0] * len(work),
        results=[ItemResult(reward=1.0) for _ in work],
        recipe=RecipeName(name="rer-reference", hash="0"),
        models=ModelNames(relevance="r", gold=None),
        timing_ms=TimingMs(queue=0, encode=0, gold=None, total=0),
        texts=TextCounts(),
        notices=[],
    )


def _kernels(setting: Setting, name: str, action: Callable[[], object]) -> None:
    """Shares of the kernels' time by kind, and of the kernels in the total time."""
    rounds = 10
    action()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.device == "cuda" else [])]
    whole = median_s(action, setting.device)
    with profile(activities=activities) as profiled:
        for _ in range(rounds):
            action()
    spent: Counter[str] = Counter()
    longest: Counter[str] = Counter()
    launches = 0
    for event in profiled.key_averages():
        taken = _self_us(event, setting.device) / 1e3 / rounds
        if taken > 0:
            spent[_kind(event.key)] += taken  # type: ignore[assignment]
            longest[event.key] += taken  # type: ignore[assignment]
            launches += event.count // rounds
    total = sum(spent.values())
    said = f"{total:.2f} ms of {1e3 * whole:.2f}, {launches} of them"
    setting.note(f"{name}: kernels, of the whole time", 100 * total / (1e3 * whole), "%", said)
    for kind, taken in spent.most_common():
        setting.note(f"{name}: {kind}, of the kernels' time", 100 * taken / total, "%", f"{taken:.3f} ms")
    for kernel, taken in longest.most_common(4):
        setting.note(f"{name}: {kernel[:40]}", taken, "ms")


def _self_us(event: Any, device: str) -> float:
    if device != "cuda":
        return float(event.self_cpu_time_total)
    is_kernel = str(event.device_type).endswith("CUDA")
    return float(event.self_device_time_total) if is_kernel else 0.0


def _kind(kernel: str) -> str:
    name = kernel.lower()
    kinds = (kind for kind, parts in KINDS.items() if any(part in name for part in parts))
    return next(kinds, "elementwise, rest")
