"""Hostile requests, drawn at random: each has one thing that is huge, many, deep, repeated, wrong or odd.

    draw(rng) ──▶ HostileRequest: kind, path, headers, body        the same sequence for the same seed

Most are errors, some are legal and expensive. Sizes are drawn on a logarithmic scale, up to the service's limits
and beyond.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from load.hostile_routes import ROUTES
from load.hostile_values import size, text, wrong

__all__ = ["KINDS", "HostileRequest", "draw"]

_MAX_BODY_BYTES = 40_000_000
"""Above the service's `max_body_bytes`."""


@dataclass(frozen=True)
class HostileRequest:
    """One request, to be delivered in one of the ways of `hostile_delivery`."""

    kind: str
    body: bytes
    path: str = "/score"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


def draw(rng: random.Random) -> HostileRequest:
    """The next request."""
    kind = rng.choice(list(KINDS))
    drawn = KINDS[kind](rng)
    content, rest = drawn if isinstance(drawn, tuple) else (drawn, {})
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return HostileRequest(kind, body[:_MAX_BODY_BYTES], **rest)


def _item(**fields: Any) -> dict[str, Any]:
    return {"prompt": "Why is the sky blue?", "response": "Air scatters blue light."} | fields


def _message(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _items(rng: random.Random, n: int, chars: int) -> list[dict[str, Any]]:
    base = rng.randrange(10**9)
    return [_item(response=f"{base + i} {'word ' * (chars // 5)}") for i in range(n)]


def _score(rng: random.Random, **fields: Any) -> dict[str, Any]:
    return {"items": _items(rng, rng.randint(1, 3), 50)} | fields


# Native protocol ------------------------------------------------------------------------------------------------


def _huge_text(rng: random.Random) -> Any:
    name = rng.choice(["prompt", "response", "reference"])
    return {"items": [_item(**{name: text(rng, size(rng, 1000, 20_000_000))})]}


def _many_long_messages(rng: random.Random) -> Any:
    n, chars = size(rng, 2, 5_000), size(rng, 10, 199_999)
    content = text(rng, min(chars, _MAX_BODY_BYTES // n))
    return {"items": [_item(prompt=[_message(content)] * n)]}


def _many_items(rng: random.Random) -> Any:
    n = size(rng, 10, 100_000)
    return {"items": _items(rng, n, min(size(rng, 10, 10_000), 20_000_000 // n)), "gold": rng.random() < 0.2}


def _overrides(rng: random.Random) -> Any:
    n = size(rng, 10, 500_000)
    overrides: Any = rng.choice(
        [
            {f"unknown_{i}": i for i in range(n)},
            {"open_ended": ["length_incentive"] * n},
            {"feature_floors": {f"f{i}": 0.0 for i in range(n)}},
            {"feature_ranges": {f"f{i}": ["a", "b"] for i in range(min(n, 100_000))}},
            {"query_relevance_range": [[]] * n},
            {"description": "d" * n, "name": "n" * n},
            {"max_response_tokens": wrong(rng), "similarity": wrong(rng), "reward_range": wrong(rng)},
        ]
    )
    return _score(rng, recipe_overrides=overrides)


def _stop_strings(rng: random.Random) -> Any:
    n = size(rng, 1, 100_000)
    strings = rng.choice([[f"stop {i}" for i in range(n)], ["x" * min(n, 200_000)], [""], [wrong(rng)] * n, "abc"])
    items = [_item(response="ab " * size(rng, 10, 66_000)) for _ in range(rng.randint(1, 4))]
    return {"items": items, "recipe_overrides": {"stop_strings": strings}}


def _wrong_types(rng: random.Random) -> Any:
    names = ["items", "recipe", "gold", "on_item_error", "run", "step", "query_type_default", "recipe_overrides"]
    if rng.random() < 0.5:
        return _score(rng, **{rng.choice(names): wrong(rng)})
    name = rng.choice(["prompt", "response", "reference", "query_type", "id", "unknown"])
    return {"items": [_item(**{name: wrong(rng)})] * size(rng, 1, 20_000)}


def _unknown_keys(rng: random.Random) -> Any:
    n = size(rng, 1, 300_000)
    keys = {("k" * rng.choice([1, 50, 1000]))[: 20_000_000 // n] + str(i): 0 for i in range(n)}
    return _score(rng, **keys) if rng.random() < 0.5 else {"items": [_item(**keys)]}


def _long_names(rng: random.Random) -> Any:
    name, value = rng.choice(["id", "run", "recipe", "query_type"]), text(rng, size(rng, 100, 10_000_000))
    if name in {"id", "query_type"}:
        n = size(rng, 1, 1000)
        return {"items": [_item(**{name: value[: 20_000_000 // n]})] * n, "on_item_error": "report"}
    return _score(rng, **{name: value})


def _failing_items(rng: random.Random) -> Any:
    """Every item is wrong after validation, and the errors are reported."""
    bad: dict[str, Any] = rng.choice(
        [{"query_type": "closed_ended"}, {"reference": "r"}, {"prompt": " "}, {"prompt": [_message("")]}]
    )
    items = [_item(id=text(rng, 100), **bad)] * size(rng, 1, 4096)
    return {"items": items, "on_item_error": rng.choice(["fail", "report"])}


def _repeated_keys(rng: random.Random) -> bytes:
    n = size(rng, 2, 300_000)
    pairs = b",".join(rng.choice([b'"a":1', b'"response":"x"', b'"items":[]']) for _ in range(n))
    inner = rng.choice([b'{"items":[{"prompt":"a",%b}]}', b'{"items":[],"recipe_overrides":{%b}}', b"{%b}"])
    return inner % pairs


def _nested(rng: random.Random) -> bytes:
    n = size(rng, 50, 5_000_000)
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    where = rng.choice(
        [b"%b", b'{"items":%b}', b'{"items":[{"prompt":"a","response":"b"}],"recipe_overrides":%b}']
    )
    return where % (opening * n + b"1" + closing * rng.choice([n, 0, n + 1]))


def _broken_json(rng: random.Random) -> bytes:
    body = json.dumps(_score(rng)).encode()
    at = rng.randrange(len(body))
    piece = rng.choice([b"", b"\xff", b"\x00", b"NaN", b"\\ud800", b"1" * 5000, b"{" * 100, rng.randbytes(1000)])
    return body[:at] + piece + body[at + rng.randint(0, 3) :]


def _blank_or_binary(rng: random.Random) -> bytes:
    n = size(rng, 1, 35_000_000)
    return rng.choice([b"", b" " * n, b"[" + b"0," * (n // 2) + b"0]", rng.randbytes(min(n, 1_000_000)), b'"' * n])


def _legal_and_large(rng: random.Random) -> Any:
    return {"items": _items(rng, size(rng, 64, 4096), size(rng, 20, 2000))}


# OpenRLHF's protocol, targets and headers -----------------------------------------------------------------------


def _openrlhf(rng: random.Random) -> Any:
    n = size(rng, 1, 5000)
    query: Any = rng.choice([["q?" + text(rng, 1000)] * n, text(rng, size(rng, 10, 5_000_000)), wrong(rng)])
    label: Any = rng.choice([None, wrong(rng), {"reference": text(rng, 100)}, "[" * 1000, {"x": 1}, '{"id": 1}'])
    body = {"query": query, "prompts": rng.choice([["q?"] * n, ["q?"], None, wrong(rng)]), "labels": [label] * n}
    return body, {"path": "/get_reward"}


def _long_target(rng: random.Random) -> Any:
    n = size(rng, 10, 60_000)
    query = rng.choice(
        [f"recipe={'r' * n}", "&".join(["gold=true"] * (n // 10)), "%" * n, f"{'k' * n}=1", "a=1&" * (n // 4)]
    )
    run = rng.choice(["x", "r" * n, "%00", "..", "%2e%2e%2f"])
    body = {"query": ["q?a"], "prompts": ["q?"], "labels": [None]}
    return body, {
        "path": rng.choice([f"/get_reward?{query}", f"/r/{run}/get_reward", f"/score?{query}", "/score/"])
    }


def _odd_headers(rng: random.Random) -> Any:
    headers = rng.choice(
        [
            {"Idempotency-Key": rng.choice("abc")},
            {"Idempotency-Key": "k" * size(rng, 1, 10_000)},
            {"Glassbox-Deadline-S": rng.choice(["0.001", "1e9", "nan", "-1", "9" * 300, "0.2"])},
            {"X-Request-ID": "i" * size(rng, 1, 10_000), "traceparent": "0" * 55},
            {f"X-{i}": "v" * 100 for i in range(size(rng, 1, 500))},
            {
                "Content-Type": rng.choice(
                    ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"]
                )
            },
            {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example", "Content-Type": "text/plain"},
            {"Host": "evil.example"},
            {"Content-Encoding": rng.choice(["gzip", "br", "zstd"])},
            {"Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__", "Connection": "Upgrade, HTTP2-Settings"},
            {"Expect": "100-continue"},
        ]
    )
    return _score(rng), {"headers": headers}


KINDS: dict[str, Callable[[random.Random], Any]] = {
    "huge text": _huge_text,
    "many long messages": _many_long_messages,
    "many items": _many_items,
    "recipe overrides": _overrides,
    "stop strings": _stop_strings,
    "wrong types": _wrong_types,
    "unknown keys": _unknown_keys,
    "long names": _long_names,
    "failing items": _failing_items,
    "repeated keys": _repeated_keys,
    "nested": _nested,
    "broken JSON": _broken_json,
    "blank or binary": _blank_or_binary,
    "legal and large": _legal_and_large,
    "OpenRLHF": _openrlhf,
    "long target": _long_target,
    "odd headers": _odd_headers,
    **ROUTES,
}
