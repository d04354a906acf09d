"""The files of a new user: responses, some of them wrong, prompts, pairs, a recipe with a typo, a tiny policy."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from reward_client.probe.case import embedded_cases
from tests.tiny_llama import save_tiny_llama

__all__ = ["DIRTY_LINES", "write_material"]

_WRONG = [
    "not JSON",
    '{"prompt": "Why is the sky blue?"}',
    '{"prompt": "Why is the sky blue?", "response": 3}',
    '{"prompt": "Why is the sky blue?", "response": "Air.", "reference": "air"}',
    "[1, 2]",
]
"""Rows that cannot be read, and one without a query type, which the service refuses."""
DIRTY_LINES = tuple(range(7, 200, 10))
"""The lines of dirty.jsonl, of 200, that cannot be scored."""


def write_material(folder: Path) -> None:
    """Write all files into `folder`."""
    cases = embedded_cases()
    good = [{"prompt": case.prompt, "response": case.response} for case in cases]
    answers = [
        row | ({"reference": case.reference, "query_type": "closed_ended"} if case.reference else {})
        for case, row in zip(cases, good, strict=True)
    ]
    _write(folder / "responses.jsonl", answers)
    _write(folder / "samples.jsonl", [row | {"response": text} for row in good[:6] for text in _variants(row)])
    _write(folder / "pairs.jsonl", good[:24])
    _write(folder / "few-pairs.jsonl", good[:5])
    _write(folder / "prompts.jsonl", answers[:6])
    _write(folder / "rows.jsonl", [{"prompt": f"What is {n} + {n}?", "reference": 2 * n} for n in range(1, 6)])
    _write(folder / "train.jsonl", _training_prompts(range(8)))
    _write(folder / "heldout.jsonl", _training_prompts(range(8, 12)))
    (folder / "dirty.jsonl").write_text(_dirty(good[0]), encoding="utf-8")
    _write_table(folder / "responses.csv", good[:8])
    (folder / "recipes").mkdir()
    mine = "description: relevance without repetition\nopen_ended: [query_relevance, repetition_penalty]\n"
    mine += "closed_ended: [reference_relevance, repetition_penalty]\n"
    (folder / "recipes" / "my-recipe.yaml").write_text(mine, encoding="utf-8")
    typo = "open_ended: [query_relevence, repetition_penalty]\nclosed_ended: [reference_relevance]\n"
    (folder / "typo.yaml").write_text(typo, encoding="utf-8")
    save_tiny_llama(folder / "policy")


def _variants(row: Mapping[str, str]) -> list[str]:
    words = row["response"].split()
    return [row["response"], " ".join(words[:20]), " ".join(words[:10] * 4)]


def _dirty(row: Mapping[str, str]) -> str:
    wrong, good = cycle(_WRONG), json.dumps(row)
    return "".join(f"{next(wrong) if line in DIRTY_LINES else good}\n" for line in range(1, 201))


def _training_prompts(numbers: Iterable[int]) -> list[dict[str, Any]]:
    open_ended = [
        {"id": f"open-{n}", "prompt": f"Describe the number {n}.", "query_type": "open_ended"} for n in numbers
    ]
    closed_ended = [
        {"id": f"sum-{n}", "prompt": f"What is {n} + 1?", "query_type": "closed_ended", "reference": str(n + 1)}
        for n in numbers
    ]
    return open_ended + closed_ended


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")


def _write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
