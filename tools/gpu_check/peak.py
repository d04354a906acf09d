"""What the card can do at most, measured: matrix products in each number format, and a copy within its memory."""

from __future__ import annotations

from functools import cache

import torch

from tools.gpu_check.timing import median_s

__all__ = ["copy_bytes_s", "products_flops"]

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@cache
def products_flops(precision: str, device: str, size: int) -> float:
    """Floating-point operations a second of (size, size) products of random numbers."""
    one, other = (torch.randn(size, size, device=device).to(_DTYPES[precision]) for _ in range(2))
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    taken = median_s(lambda: torch.mm(one, other), device, rounds=9)
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2.0 * size**3 / taken


def copy_bytes_s(device: str, n_bytes: int) -> float:
    """Bytes read and written a second by a copy from the device to itself."""
    source = torch.randint(0, 255, (n_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * n_bytes / median_s(lambda: target.copy_(source), device)
