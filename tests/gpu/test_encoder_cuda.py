"""The relevance encoder on CUDA: the vectors of a CPU in fp32, their ranking in the narrow formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from reward_runs.prompts import load_embedded
from reward_service.models.encoder import SentenceEncoder, load_encoder
from reward_service.models.protocols import Embeddings
from reward_service.settings import EMBEDDED_ENCODER

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here"),
]


def embed(encoder: SentenceEncoder) -> Embeddings:
    """Prompts and references, one batch."""
    rows = [row for row in load_embedded("train") if row.reference]
    return encoder.embed(encoder.tokenize([text for row in rows for text in (row.prompt, str(row.reference))]))


def relevances(vectors: Embeddings) -> list[float]:
    return [float(a @ b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]


def test_fp32_on_cuda_has_the_vectors_of_a_cpu() -> None:
    on_cpu = embed(load_encoder(EMBEDDED_ENCODER, "cpu", backend="torch"))

    np.testing.assert_allclose(embed(load_encoder(EMBEDDED_ENCODER, "cuda")), on_cpu, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_narrow_formats_rank_as_fp32_does(precision: str) -> None:
    wide = relevances(embed(load_encoder(EMBEDDED_ENCODER, "cuda")))
    narrow = relevances(embed(load_encoder(EMBEDDED_ENCODER, "cuda", precision=precision)))  # type: ignore[arg-type]

    assert spearmanr(wide, narrow).statistic >= 0.999


def test_a_text_has_the_same_vector_alone_in_a_small_batch_and_in_a_large_one() -> None:
    """Small batches are replayed as recorded, large ones launched kernel by kernel."""
    encoder = load_encoder(EMBEDDED_ENCODER, "cuda")
    rows = encoder.tokenize([row.prompt for row in load_embedded("train")])
    large = encoder.embed(rows)
    small = np.concatenate([encoder.embed(rows[i : i + 5]) for i in range(0, len(rows), 5)])
    alone = np.concatenate([encoder.embed([row]) for row in rows[:20]])

    np.testing.assert_allclose(small, large, atol=1e-4)
    np.testing.assert_allclose(alone, large[:20], atol=1e-4)
