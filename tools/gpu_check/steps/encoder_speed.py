"""The encoder without a server: rows and tokens per second by shape and format, and the card's peak."""

from __future__ import annotations

import statistics
from functools import partial

import torch

from reward_service.models.cuda import pack, unpack
from reward_service.models.encoder import SentenceEncoder, load_encoder
from reward_service.settings import EMBEDDED_ENCODER
from tools.gpu_check.peak import copy_bytes_s, products_flops
from tools.gpu_check.plain import PlainEncoder, random_rows
from tools.gpu_check.setting import Setting
from tools.gpu_check.texts import batches, items, unique_texts
from tools.gpu_check.timing import median_s, seconds

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def attention_flops(width: int, layers: int, hidden: int) -> float:
    """Floating-point operations of attention per token of a row of `width`: two products of 2 × width × hidden."""
    return 4.0 * width * hidden * layers


def run(setting: Setting) -> None:
    """Peaks, then shapes, then real texts in the service's batches, then the gain of a CUDA graph."""
    size = setting.size(8192, 128)
    for precision in DTYPES if setting.device == "cuda" else setting.precisions:
        peak = products_flops(precision, setting.device, size)
        setting.note(f"matrix products {precision}, {size}³", peak / 1e12, "TFLOP/s")
    setting.note("copy within the memory", copy_bytes_s(setting.device, setting.size(2**31, 2**20)) / 1e9, "GB/s")
    for precision in setting.precisions:
        encoder = load_encoder(EMBEDDED_ENCODER, setting.device, precision=precision)
        _shapes(setting, encoder, precision)
        _real_texts(setting, encoder, precision)
    if setting.device == "cuda":
        _products_in_tf32(setting)
        _graphs(setting)
        _attention_of_cudnn(setting)


def _shapes(setting: Setting, encoder: SentenceEncoder, precision: str) -> None:
    body = PlainEncoder(setting.device, DTYPES[precision])
    peak = products_flops(precision, setting.device, setting.size(8192, 128))
    shapes = [(1, 32), (16, 128), (256, 64), (512, 128), (1024, 64), (128, 512), (4096, 64), (512, 512)]
    for rows, width in setting.size(shapes, [(2, 16), (4, 32)]):
        batch = random_rows(rows, [width])
        taken = median_s(partial(encoder.embed, batch), setting.device)
        flops = rows * width * (body.flops_a_token + attention_flops(width, 6, 384)) / taken
        said = f"{rows / taken:,.0f} rows/s, {flops / 1e12:.1f} TFLOP/s"
        name = f"encoder {precision}, {rows} × {width}: of the products' peak"
        setting.note(name, 100 * flops / peak, "%", f"{said}, {1e3 * taken:.2f} ms")
        _pass_alone(setting, body, precision, (rows, width), taken)


def _pass_alone(
    setting: Setting, body: PlainEncoder, precision: str, shape: tuple[int, int], embed_s: float
) -> None:
    """The forward pass with its inputs on the device; the rest of `embed` is tables, copies and waiting."""
    inputs = unpack(pack(random_rows(shape[0], [shape[1]]), 0).to(setting.device))
    with torch.inference_mode():
        alone = median_s(lambda: body.vectors(inputs["input_ids"], inputs["attention_mask"]), setting.device)
    name = f"encoder {precision}, {shape[0]} × {shape[1]}: pass alone ÷ embed, in time"
    setting.note(name, 100 * alone / embed_s, "%", f"{1e3 * alone:.2f} ms")


def _real_texts(setting: Setting, encoder: SentenceEncoder, precision: str) -> None:
    """Rows of unequal length, as in requests; tokens without padding are counted."""
    texts = unique_texts(items(setting.size(4096, 16), seed=4))
    rows = encoder.tokenize(texts)
    formed = batches(rows, encoder.limits)
    taken = median_s(lambda: [encoder.embed(batch) for batch in formed], setting.device, rounds=3, warm_up=1)
    tokens = sum(map(len, rows))
    padded = sum(len(batch) * max(map(len, batch)) for batch in formed)
    said = f"{len(rows) / taken:,.0f} rows/s, {len(formed)} batches, {100 * (padded / tokens - 1):.0f} % padding"
    setting.note(f"encoder {precision}, {len(rows)} real texts", tokens / taken, "tokens/s", said)
    for name, all_cores in (("one by one", False), ("all cores", True)):
        spent = median_s(
            partial(encoder.tokenize, texts, all_cores=all_cores),
            setting.device,
            rounds=3,
            warm_up=1,
        )
        setting.note(f"tokenizing, {name} ({precision} run)", tokens / spent, "tokens/s", f"{1e3 * spent:.0f} ms")


def _products_in_tf32(setting: Setting) -> None:
    """The fp32 encoder when products may use TF32."""
    body = PlainEncoder("cuda")
    inputs = unpack(pack(random_rows(1024, [64]), 0).cuda())
    taken = {}
    for allowed in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        with torch.inference_mode():
            taken[allowed] = median_s(lambda: body.vectors(inputs["input_ids"], inputs["attention_mask"]), "cuda")
    torch.backends.cuda.matmul.allow_tf32 = False
    setting.note("encoder fp32, 1024 × 64: tf32 products, times as fast", taken[False] / taken[True])


def _graphs(setting: Setting) -> None:
    """A pass replayed as a CUDA graph, compared with the same pass launched kernel by kernel."""
    body = PlainEncoder("cuda", torch.bfloat16)
    for rows, width in ((1, 32), (16, 64), (64, 64), (256, 64), (1024, 64)):
        lengths = [width, max(1, width // 2)]
        inputs = unpack(pack(random_rows(max(rows, 2), lengths), 0).cuda())
        ids, mask = inputs["input_ids"][:rows].clone(), inputs["attention_mask"][:rows].clone()
        with torch.inference_mode():
            eager = median_s(partial(body.vectors, ids, mask), "cuda")
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                body.vectors(ids, mask)
            replayed = median_s(graph.replay, "cuda")
        said = f"{1e3 * replayed:.3f} ms against {1e3 * eager:.3f}"
        setting.note(f"CUDA graph, bf16, {rows} × {width}: times as fast", eager / replayed, note=said)


def _attention_of_cudnn(setting: Setting) -> None:
    """cuDNN's attention, which the service switches off: its first pass at a new shape, and its later ones."""
    body = PlainEncoder("cuda", torch.bfloat16)
    for name, allowed in (("as the service has it", False), ("cuDNN's", True)):
        torch.backends.cuda.enable_cudnn_sdp(allowed)
        first, later = [], 0.0
        for width in (72, 88, 104, 120):  # shapes that nothing before has used
            inputs = unpack(pack(random_rows(300, [width, width - 8]), 0).cuda())
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            with torch.inference_mode():
                first.append(seconds(partial(body.vectors, ids, mask), "cuda"))
                later = median_s(partial(body.vectors, ids, mask), "cuda")
        said = f"then {1e3 * later:.2f} ms for 300 × 120"
        setting.note(
            f"attention, {name}, bf16: first pass at a new shape", 1e3 * statistics.median(first), "ms", said
        )
    torch.backends.cuda.enable_cudnn_sdp(False)
