"""The encoder's vectors on the device, compared with a CPU and with plain Transformers, by number format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from reward_service.models.cuda import Inputs, pack, unpack
from reward_service.models.encoder import SentenceEncoder, load_encoder
from reward_service.models.protocols import Tokens
from reward_service.settings import EMBEDDED_ENCODER
from tools.gpu_check.plain import PlainEncoder
from tools.gpu_check.setting import Setting
from tools.gpu_check.texts import batches, items, unique_texts

Vectors = NDArray[np.float32]
ELEMENT_BAR = 1e-3
"""Largest deviation of an element in fp32."""
RANK_BAR = 0.999
"""Smallest rank correlation of relevances with those of a CPU in fp32."""


def run(setting: Setting) -> None:
    """Compare by format, then in the narrow formats that the service does not use."""
    texts = ["", *unique_texts(items(setting.size(256, 16), seed=1)), "word " * 2000]
    cpu = load_encoder(EMBEDDED_ENCODER, "cpu", backend="torch")
    rows = cpu.tokenize(texts)
    expected = _in_batches(cpu, rows)
    alone = PlainEncoder("cpu").one_by_one(rows[:24]).numpy()
    setting.note("encoder, CPU: service - plain Transformers, largest element", _apart(expected[:24], alone))
    for precision in setting.precisions:
        encoder = load_encoder(EMBEDDED_ENCODER, setting.device, precision=precision)
        same = encoder.tokenize(texts) == rows
        setting.note(f"encoder {precision}: the same tokens as one by one", same, kept=same)
        _compare(setting, f"encoder {precision}", expected, _in_batches(encoder, rows))
        single = np.concatenate([encoder.embed([row]) for row in rows[:24]])
        bar = ELEMENT_BAR if precision == "fp32" else None
        _apart_noted(setting, f"encoder {precision}, alone - CPU", single, expected[:24], bar)
    if setting.device == "cuda":
        _other_ways(setting, rows, expected)


def _compare(setting: Setting, name: str, expected: Vectors, found: Vectors) -> None:
    fp32 = "fp32" in name
    _apart_noted(setting, f"{name}, in batches - CPU", found, expected, ELEMENT_BAR if fp32 else None)
    wanted, got = _relevances(expected), _relevances(found)
    rank = float(spearmanr(wanted, got).statistic)
    setting.note(f"{name}: rank correlation of relevances", rank, kept=rank >= RANK_BAR)
    apart = np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))
    setting.note(f"{name}: largest deviation of a relevance, relative or absolute", float(apart.max()))


def _other_ways(setting: Setting, rows: Sequence[Tokens], expected: Vectors) -> None:
    plain = PlainEncoder("cuda")

    def vectors(inputs: Inputs) -> torch.Tensor:
        return plain.vectors(inputs["input_ids"], inputs["attention_mask"])

    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        with torch.autocast("cuda", dtype=dtype):
            _compare(setting, f"autocast {name}", expected, _by(vectors, rows))
    torch.backends.cuda.matmul.allow_tf32 = True
    _compare(setting, "tf32 products", expected, _by(vectors, rows))
    torch.backends.cuda.matmul.allow_tf32 = False


@torch.inference_mode()
def _by(vectors: Callable[[Inputs], torch.Tensor], rows: Sequence[Tokens]) -> Vectors:
    found = [vectors(unpack(pack(rows[i : i + 64], 0).cuda())).cpu() for i in range(0, len(rows), 64)]
    return np.concatenate([part.numpy() for part in found])


def _in_batches(encoder: SentenceEncoder, rows: Sequence[Tokens]) -> Vectors:
    """Vectors of `rows`, in the service's batches."""
    found = np.zeros((len(rows), encoder.embed(rows[:1]).shape[1]), np.float32)
    places = {id(row): i for i, row in enumerate(rows)}
    for batch in batches(rows, encoder.limits):
        found[[places[id(row)] for row in batch]] = encoder.embed(batch)
    return found


def _relevances(vectors: Vectors) -> Vectors:
    """Dot products of neighbouring and of more distant rows: the relevances of a reward."""
    pairs = [(vectors * np.roll(vectors, shift, axis=0)).sum(1) for shift in (1, 2, 7)]
    return np.concatenate(pairs)


def _apart(one: Vectors, other: Vectors) -> float:
    return float(np.abs(one - other).max())


def _apart_noted(setting: Setting, name: str, one: Vectors, other: Vectors, bar: float | None) -> None:
    apart = _apart(one, other)
    setting.note(f"{name}, largest element", apart, kept=None if bar is None else apart <= bar)
