"""`torch.compile` of a pass: what the first call costs, and what the later ones gain."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from reward_service.models.cuda import pack, unpack
from reward_service.models.gold import HfGoldModel
from reward_service.models.load_gold import load_gold
from tools.gpu_check.gold_models import built
from tools.gpu_check.plain import PlainEncoder, random_rows
from tools.gpu_check.setting import Setting
from tools.gpu_check.timing import median_s, seconds


def run(setting: Setting) -> None:
    """The encoder, then the larger gold model, which takes minutes to compile."""
    _encoder(setting)
    _gold(setting)


def _gold(setting: Setting) -> None:
    """A causal model without a mask, as the service gives it."""
    folder = built("0.6 B", setting.scratch, setting.device, small=setting.small)
    gold = load_gold(str(folder), setting.device)
    assert isinstance(gold, HfGoldModel)  # noqa: S101 - for mypy
    options: dict[str, Any] = {"dynamic": True} | setting.size({}, {"backend": "eager"})
    compiled = torch.compile(gold.logits, **options)
    with torch.inference_mode():
        for rows, width in setting.size([(32, 512), (4, 512)], [(2, 16)]):
            inputs = unpack(pack(random_rows(rows, [width, width - 1]), 3).to(setting.device))
            first = seconds(partial(compiled, inputs), setting.device)
            fast = median_s(partial(compiled, inputs), setting.device, rounds=5)
            slow = median_s(partial(gold.logits, inputs), setting.device, rounds=5)
            said = f"{1e3 * fast:.1f} ms against {1e3 * slow:.1f}; the first call {first:.1f} s"
            setting.note(f"compiled gold 0.6 B, dynamic, {rows} × {width}: times as fast", slow / fast, note=said)


def _encoder(setting: Setting) -> None:
    """With shapes that may change, then with CUDA graphs for one shape."""
    body = PlainEncoder(setting.device, torch.bfloat16 if setting.device == "cuda" else torch.float32)
    modes: dict[str, dict[str, Any]] = {
        "dynamic shapes": {"dynamic": True} | setting.size({}, {"backend": "eager"})
    }
    if setting.device == "cuda":
        modes["one shape, with a CUDA graph"] = {"mode": "reduce-overhead"}
    shapes = setting.size([(1024, 64), (16, 64), (128, 512)], [(4, 16)])
    for name, options in modes.items():
        torch.compiler.reset()
        compiled = torch.compile(body.vectors, **options)
        with torch.inference_mode():
            for rows, width in shapes:
                inputs = unpack(pack(random_rows(rows, [width, width - 1]), 0).to(setting.device))
                ids, mask = inputs["input_ids"], inputs["attention_mask"]
                first = seconds(partial(compiled, ids, mask), setting.device)
                fast = median_s(partial(compiled, ids, mask), setting.device)
                slow = median_s(partial(body.vectors, ids, mask), setting.device)
                said = f"{1e3 * fast:.2f} ms against {1e3 * slow:.2f}; the first call {first:.1f} s"
                setting.note(f"compiled, {name}, {rows} × {width}: times as fast", slow / fast, note=said)
