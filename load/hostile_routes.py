"""Hostile requests to the routes of other protocols, of data sets, and of operations.

ROUTES[kind](rng) ──▶ body, {"path": …, "method": …}
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from load.hostile_values import size, text, wrong

__all__ = ["ROUTES"]

_MAX_CHARS = 20_000_000
"""Characters of a request, about."""


def _content(rng: random.Random) -> Any:
    """Content of a message: text, parts of any number and length, or a wrong value."""
    n = size(rng, 1, 2_000)
    parts = [{"type": "text", "text": text(rng, min(size(rng, 1, 250_000), _MAX_CHARS // n))}] * n
    return rng.choice([text(rng, size(rng, 1, 1_000_000)), parts, parts, wrong(rng)])


def _messages(rng: random.Random) -> list[dict[str, Any]]:
    n = rng.choice([1, 1, 2, 40])
    roles = [rng.choice(["user", "assistant", "system", "poet"]) for _ in range(n)]
    content = _content(rng)
    return [{"role": role, "content": content if i == n - 1 else "Why?"} for i, role in enumerate(roles)]


def _slime(rng: random.Random) -> Any:
    prompt = rng.choice([_messages(rng), text(rng, size(rng, 1, 1_000_000)), wrong(rng)])
    label = rng.choice([None, wrong(rng), [f"r{i}" for i in range(size(rng, 1, 100_000))], {"reference": "r"}])
    response = text(rng, size(rng, 1, 300_000))
    return {"prompt": prompt, "response": response, "label": label}, {"path": "/slime"}


def _values(rng: random.Random) -> Any:
    """Many values: in lists, with long keys, or nested."""
    n = size(rng, 10, 500_000)
    one: Any = rng.choice([[], {}, 0.5, "x", None, [[]], 1e400])
    nested: Any = 1
    for _ in range(size(rng, 1, 190)):
        nested = rng.choice([[nested], {"k": nested}])
    key = "k" * size(rng, 1, 2_000_000)
    return rng.choice([[one] * n, {key: [one] * n}, {f"{key[:1000]}{i}": one for i in range(min(n, 200))}, nested])


def _verify(rng: random.Random) -> Any:
    output = [{"type": "message", "role": "assistant", "content": _content(rng)}]
    body = {
        "responses_create_params": {"input": rng.choice([_messages(rng), "Why?", wrong(rng)])},
        "response": {"output": output, "other": _values(rng)},
        "reference": rng.choice([None, "r", wrong(rng)]),
        **rng.choice([{}, {"values": _values(rng)}, {"k" * size(rng, 1, 100_000): 1}]),
    }
    return body, {"path": "/nemo_gym/verify"}


def _aggregate(rng: random.Random) -> Any:
    n, chars = size(rng, 1, 20_000), size(rng, 1, 3_000)
    shared = rng.random() < 0.5
    responses = [
        {"_ng_task_index": rng.choice([i, 0, None]), f"{0 if shared else i}".ljust(chars, "k"): rng.random()}
        for i in range(min(n, _MAX_CHARS // chars))
    ]
    return {"verify_responses": rng.choice([responses, responses, [wrong(rng)] * n])}, {
        "path": "/nemo_gym/aggregate_metrics"
    }


def _reward_server(rng: random.Random) -> Any:
    n = size(rng, 1, 8_000)
    texts = [f"{i} {text(rng, min(size(rng, 1, 100_000), _MAX_CHARS // n))}" for i in range(n)]
    model = rng.choice([None, "m", "m" * size(rng, 1, 1_000_000)])
    return rng.choice(
        [
            ({"input": texts, "model": model}, {"path": rng.choice(["/classify", "/pooling", "/v1/embeddings"])}),
            ({"messages": _messages(rng), "model": model}, {"path": rng.choice(["/classify", "/pooling"])}),
            ({"text": texts}, {"path": "/classify"}),
            ({"input": wrong(rng)}, {"path": "/v1/classify"}),
            ({"inputs": [[one, "t"] for one in texts]}, {"path": "/predict"}),
            ({"inputs": rng.choice([texts, wrong(rng), [[[]]] * n])}, {"path": "/predict"}),
        ]
    )


def _rerank(rng: random.Random) -> Any:
    query = text(rng, size(rng, 1, 300_000))
    texts = [f"t{i}" for i in range(size(rng, 1, 5_000))]
    return {"query": query, "texts": texts, "return_text": rng.random() < 0.5}, {"path": "/rerank"}


def _references(rng: random.Random) -> Any:
    references = [f"r{i}" for i in range(size(rng, 1, 100))]
    items = [{"prompt": "Why?", "response": f"r{i}", "reference": references} for i in range(size(rng, 1, 4_096))]
    return {"items": items, "query_type_default": "closed_ended"}, {}


def _dataset(rng: random.Random) -> Any:
    n = size(rng, 1, 20_000)
    row: dict[str, Any] = rng.choice(
        [
            {"prompt": "Why?", "reference": [f"r{i}" for i in range(64)]},
            {"prompt": text(rng, min(size(rng, 1, 250_000), _MAX_CHARS // n))},
            {"prompt": "Why?", "reference": wrong(rng)},
            {"k" * size(rng, 1, 100_000): 1},
        ]
    )
    rows = (json.dumps(row | ({"prompt": f"{i} {row['prompt']}"} if "prompt" in row else {})) for i in range(n))
    body = "\n".join(rows).encode()
    return body, {"path": f"/datasets/d{rng.randrange(4)}", "method": "PUT"}


def _with_dataset(rng: random.Random) -> Any:
    items = [{"prompt": "0 Why?", "response": f"r{i}"} for i in range(size(rng, 1, 4_096))]
    return {"items": items}, {"path": f"/score?dataset=d{rng.randrange(4)}&dataset_miss=open_ended"}


def _operations(rng: random.Random) -> Any:
    path = rng.choice(
        ["/info", "/openapi.json", "/metrics", "/datasets", "/healthz", "/readyz", "/docs", "/v1/models"]
    )
    return b"", {"path": path, "method": "GET"}


ROUTES: dict[str, Callable[[random.Random], Any]] = {
    "slime": _slime,
    "NeMo-Gym's verify": _verify,
    "NeMo-Gym's statistics": _aggregate,
    "reward-model servers": _reward_server,
    "re-ranker": _rerank,
    "many references": _references,
    "upload of a data set": _dataset,
    "references of a data set": _with_dataset,
    "operations": _operations,
}
"""Bodies and targets, by kind."""
