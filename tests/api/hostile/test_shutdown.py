"""Graceful shutdown ends within its bound, whatever is being read, prepared, held, scored or answered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.api.hostile.service import started
from tests.live import item, posted, until

pytestmark = pytest.mark.slow

LONG = "ab " * 60_000
STOP_STRINGS = {"stop_strings": [f"stop {n}" for n in range(60)]}

WORK: dict[str, tuple[str, Any, int, int | None]] = {
    "stop strings": ("/score", {"items": [item(LONG)] * 8, "recipe_overrides": STOP_STRINGS}, 7, None),
    "thousands of items": ("/score", {"items": [item(f"{n} " + "word " * 100) for n in range(4_096)]}, 8, None),
    "OpenRLHF": (
        "/get_reward",
        {"query": [f"q?{n} {'word ' * 500}" for n in range(512)], "prompts": None},
        32,
        None,
    ),
    "bodies that do not arrive": ("/score", {"items": []}, 16, 30_000_000),
}


@pytest.mark.parametrize("name", WORK)
def test_a_busy_service_stops_within_its_bound(tmp_path: Path, control_url: str, name: str) -> None:
    path, body, workers, declared = WORK[name]
    content = json.dumps(body).encode()
    with started(tmp_path, control_url) as target:
        headers = {"content-type": "application/json"} | target.headers()
        before = target.cpu_s()
        with ThreadPoolExecutor(workers) as pool:
            connections = list(
                pool.map(lambda _: posted(target.url, path, content, headers, declared), range(workers))
            )
        until(lambda: declared is not None or target.cpu_s() > before + 0.3)

        assert target.stop() <= target.max_stop_s

        for connection in connections:
            connection.close()
