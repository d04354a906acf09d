"""Measure the limits of the card: matrix products in each number format, and a copy within its memory."""

from __future__ import annotations

from functools import cache

import torch

from tools.gpu_check.timing import median_s

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@cache
def products_flops(precision: str, device: str, size: int) -> float:
    """Floating-point operations per second of (size, size) products of random numbers."""
    one, other = (torch.randn(size, size, device=device).to(_DTYPES[precision]) for _ in range(2))
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    taken = median_s(lambda: torch.mm(one, other), device, rounds=9)
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2.0 * size**3 / taken


def copy_bytes_s(device: str, n_bytes: int) -> float:
    """Bytes read and written per second by a copy on the device."""
    source = torch.randint(0, 255, (n_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * n_bytes / median_s(lambda: target.copy_(source), device)
