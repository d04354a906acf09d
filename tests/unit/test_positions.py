"""A model with few positions reads the end of a text, as far as its positions go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MPNetConfig,
    MPNetModel,
    OPTConfig,
    OPTModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

from reward_service.errors import ConfigurationError
from reward_service.models.encoder import load_encoder
from reward_service.models.positions import max_positions
from tests.gold_models import save_bert

pytestmark = pytest.mark.slow

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
WIDE = {"intermediate_size": 32, "max_position_embeddings": 66}
FAMILIES: dict[str, tuple[Any, Any, int | None]] = {
    "BERT": (BertModel, BertConfig(**SMALL, **WIDE), 66),
    "RoBERTa": (RobertaModel, RobertaConfig(**SMALL, **WIDE, pad_token_id=1), 64),
    "MPNet": (MPNetModel, MPNetConfig(**SMALL, **WIDE), 64),
    "DistilBERT": (
        DistilBertModel,
        DistilBertConfig(vocab_size=50, dim=32, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=66),
        66,
    ),
    "GPT-2": (GPT2Model, GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=2, n_positions=66), 66),
    "OPT": (
        OPTModel,
        OPTConfig(**SMALL, ffn_dim=32, max_position_embeddings=66, word_embed_proj_dim=32),
        66,
    ),
    "Llama": (LlamaModel, LlamaConfig(**SMALL, **WIDE), 66),
    "T5": (T5EncoderModel, T5Config(vocab_size=50, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2), None),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_maximum_is_the_longest_text_that_the_model_can_read(family: str) -> None:
    kind, config, expected = FAMILIES[family]
    model = kind(config).eval()

    assert max_positions(model) == expected
    with torch.inference_mode():
        model(input_ids=torch.full((1, expected or 700), 7))


@pytest.mark.parametrize("positions", [16, 64, 512, 1024])
def test_an_encoder_reads_the_end_of_a_long_text(tmp_path: Path, positions: int) -> None:
    folder = save_bert(tmp_path / "encoder", head=False, words="red leaves fade the end", positions=positions)
    encoder = load_encoder(str(folder), "cpu", backend="torch")

    long, end = encoder.tokenize(["red leaves fade " * 9_000 + "the end", "the end"])

    assert len(long) == min(512, positions)
    assert long.input_ids[-3:] == end.input_ids[-3:]
    assert np.isfinite(encoder.embed([long, end])).all()


def test_an_encoder_whose_weights_are_damaged_is_not_loaded(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "encoder", head=False, words="a", positions=64)
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ConfigurationError, match="not finite: its weights are damaged"):
        load_encoder(str(folder), "cpu", backend="torch")
