"""`torch.compile` of the encoder: the time of the first call, and the gain of later ones."""

from __future__ import annotations

from typing import Any

import torch

from reward_service.models.cuda import pack, unpack
from tools.gpu_check.plain import PlainEncoder, random_rows
from tools.gpu_check.setting import Setting
from tools.gpu_check.timing import median_s, seconds

__all__ = ["run"]


def run(setting: Setting) -> None:
    """With dynamic shapes, then with CUDA graphs for one shape."""
    body = PlainEncoder(setting.device, torch.bfloat16 if setting.device == "cuda" else torch.float32)
    modes: dict[str, dict[str, Any]] = {
        "dynamic shapes": {"dynamic": True} | setting.size({}, {"backend": "eager"})
    }
    if setting.device == "cuda":
        modes["one shape, max-autotune off, graphs on"] = {"mode": "reduce-overhead"}
    shapes = setting.size([(1024, 64), (16, 64), (128, 512)], [(4, 16)])
    for name, options in modes.items():
        torch.compiler.reset()
        compiled = torch.compile(body.vectors, **options)
        with torch.inference_mode():
            for rows, width in shapes:
                inputs = unpack(pack(random_rows(rows, [width, width - 1]), 0).to(setting.device))
                ids, mask = inputs["input_ids"], inputs["attention_mask"]
                first = seconds(lambda: compiled(ids, mask), setting.device)  # noqa: B023
                fast = median_s(lambda: compiled(ids, mask), setting.device)  # noqa: B023
                slow = median_s(lambda: body.vectors(ids, mask), setting.device)  # noqa: B023
                said = f"{1e3 * fast:.2f} ms against {1e3 * slow:.2f}; the first call {first:.1f} s"
                setting.note(f"compiled, {name}, {rows} × {width}: times as fast", slow / fast, note=said)
