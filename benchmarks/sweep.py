"""Throughput and resident memory over request sizes and response lengths."""

from __future__ import annotations

from functools import partial

import psutil

from benchmarks.items import groups, of_tokens, unique_texts
from benchmarks.measure import seconds
from benchmarks.requests import body, post

__all__ = ["sizes"]


def sizes(url: str) -> list[str]:
    """Rows per second and resident memory over request sizes and response lengths, as table rows."""
    processes, rows = listeners(url), []
    for n in (1, 16, 64, 256, 1024, 4096):
        items = groups(max(1, n // 8), min(n, 8), seed=n)
        content, rounds = body(items), max(1, 64 // n)
        took = seconds(partial(post_repeatedly, url, content, rounds)) / rounds
        texts = sum(map(len, unique_texts(items)))
        memory = sum(process.memory_info().rss for process in processes) / 2**20
        rows.append(f"| {n} items | {len(items) / took:.1f} | {texts / took / 1e3:.0f} | {memory:.0f} |")
    for n_tokens in (16, 64, 256, 512, 1024, 2048):
        items = of_tokens(max(8, min(256, 16_384 // n_tokens)), n_tokens)
        content = body(items)
        took = seconds(partial(post, url, content))
        texts = sum(map(len, unique_texts(items)))
        memory = sum(process.memory_info().rss for process in processes) / 2**20
        rows.append(
            f"| {n_tokens} tokens a response | {len(items) / took:.1f} | {texts / took / 1e3:.0f} | {memory:.0f} |"
        )
    return rows


def post_repeatedly(url: str, content: bytes, n: int) -> None:
    """Send the same request `n` times in sequence."""
    for _ in range(n):
        post(url, content)


def listeners(url: str) -> list[psutil.Process]:
    """The processes of the service: its supervisor and the serving process."""
    port = int(url.rsplit(":", 1)[1])
    found = {c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port}
    family = {p.pid: p for pid in found if pid for p in (psutil.Process(pid), *psutil.Process(pid).children(True))}
    return list(family.values())
