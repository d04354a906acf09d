"""Parity with the reference arithmetic: every vector, every recipe, over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from scipy.stats import spearmanr

pytestmark = pytest.mark.slow

OWN = Path(__file__).parent / "own_vectors.jsonl"
RECIPES = {
    "li": "li",
    "li-rp": "li_rp",
    "qr-reference": "qr",
    "li-rp-qr-reference": "li_rp_qr",
    "rer-reference": "li_rp_qr_rar_rb",
    "rer-reference-nostrip": "li_rp_qr_rar_rb_nostrip",
}
CUTS_NOTHING = "rer-reference-nostrip"
"""Its features are those of the whole response; the vectors have those of the cut one."""

Vector = dict[str, Any]


def vectors(path: Path) -> list[Vector]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def score(service: TestClient, rows: list[Vector], recipe: str) -> Iterator[tuple[Vector, dict[str, Any]]]:
    """Each vector with its result."""
    fields = ("prompt", "response", "reference", "query_type")
    response = service.post("/score", json={"items": [{f: r[f] for f in fields} for r in rows], "recipe": recipe})
    assert response.status_code == 200, response.text
    return zip(rows, response.json()["results"], strict=True)


def assert_parity(service: TestClient, rows: list[Vector], recipe: str) -> None:
    for vector, result in score(service, rows, recipe):
        expected, features = vector["expected"], result["features"]
        if recipe != CUTS_NOTHING:
            for name in ("length_incentive", "repetition_penalty"):
                assert features[name] == pytest.approx(expected[name], abs=1e-9), vector["id"]
        assert result["reward"] == pytest.approx(expected["reward"][RECIPES[recipe]], rel=1e-3, abs=1e-3), vector[
            "id"
        ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_rewards_equal_the_reference_on_all_shared_vectors(
    real_service: TestClient, shared_dir: Path, recipe: str
) -> None:
    rows = vectors(shared_dir / "golden/reference_vectors.jsonl")
    assert len(rows) == 522

    assert_parity(real_service, rows, recipe)


@pytest.mark.parametrize("recipe", RECIPES)
def test_rewards_equal_the_reference_on_our_own_vectors(real_service: TestClient, recipe: str) -> None:
    rows = vectors(OWN)
    assert len(rows) >= 60

    assert_parity(real_service, rows, recipe)


def test_bf16_ranks_the_shared_vectors_as_the_reference_does(narrow_service: TestClient, shared_dir: Path) -> None:
    """The gate of a number format that does not keep parity: a rank correlation of 0.999."""
    scored = list(score(narrow_service, vectors(shared_dir / "golden/reference_vectors.jsonl"), "rer-reference"))
    expected = [vector["expected"]["reward"][RECIPES["rer-reference"]] for vector, _ in scored]

    assert spearmanr(expected, [result["reward"] for _, result in scored]).statistic >= 0.999


def test_relevance_is_the_references_for_closed_and_the_prompts_for_open_ended_items(
    real_service: TestClient,
) -> None:
    for vector, result in score(real_service, vectors(OWN), "rer-reference"):
        used = "reference_relevance" if vector["query_type"] == "closed_ended" else "query_relevance"
        assert result["features"][used] == pytest.approx(vector["expected"]["relevance"], rel=1e-3, abs=1e-3)
