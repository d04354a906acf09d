"""What a BERT computes, in numpy: too slow to serve, and independent of OpenVINO, whose values it checks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from reward_service.models.bert import Bert

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

_erf = np.vectorize(math.erf, otypes=[np.float32])


def example(n_words: int) -> dict[str, Ids]:
    """Inputs of a BERT with `n_words` tokens: two rows, of 5 and 3 tokens."""
    ids = (np.arange(10, dtype=np.int64) * 7919 % n_words).reshape(2, 5)
    mask, types = np.ones_like(ids), np.zeros_like(ids)
    mask[1, 3:], types[:, 2:] = 0, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def mean_vectors(bert: Bert, inputs: Mapping[str, Ids]) -> Floats:
    """Vectors (B, D) of rows (B, T): the values of `encoder_graph`."""
    mask = inputs["attention_mask"][:, :, None].astype(np.float32)
    mean: Floats = (_states(bert, inputs) * mask).sum(axis=1) / mask.sum(axis=1)
    return mean


def scores(bert: Bert, inputs: Mapping[str, Ids]) -> Floats:
    """Scores (B,) of rows (B, T): the values of `gold_graph`."""
    pooled = np.tanh(_linear(bert, _states(bert, inputs)[:, 0], "pooler.dense"))
    return _linear(bert, pooled, "classifier")[:, 0]


def _states(bert: Bert, inputs: Mapping[str, Ids]) -> Floats:
    """States (B, T, D) of the last layer."""
    ids, table = (
        inputs["input_ids"],
        {name: bert.weights[f"embeddings.{name}_embeddings.weight"] for name in _TABLES},
    )
    words = table["word"][ids] + table["token_type"][inputs["token_type_ids"]] + table["position"][: ids.shape[1]]
    states = _norm(bert, words, "embeddings.LayerNorm")
    ignored = np.where(inputs["attention_mask"][:, None, None, :] == 0, -np.inf, 0).astype(np.float32)
    for name in bert.layers:
        context = _attention(bert, states, ignored, f"{name}.attention.self")
        states = _added(bert, context, states, f"{name}.attention.output")
        inner = _linear(bert, states, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + _erf(inner / np.float32(math.sqrt(2))))
        states = _added(bert, inner, states, f"{name}.output")
    return states


_TABLES = ("word", "token_type", "position")


def _attention(bert: Bert, states: Floats, ignored: Floats, name: str) -> Floats:
    """Attention of rows (B, T, D), with `ignored` (B, 1, 1, T) added to its logits."""
    shape = (*states.shape[:2], *bert.head_shape)
    query, key, value = (
        _linear(bert, states, f"{name}.{part}").reshape(shape).swapaxes(1, 2) for part in ("query", "key", "value")
    )
    logits = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(shape[-1])) + ignored
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    context = weights / weights.sum(axis=-1, keepdims=True) @ value
    joined: Floats = context.swapaxes(1, 2).reshape(states.shape)
    return joined


def _added(bert: Bert, new: Floats, states: Floats, name: str) -> Floats:
    return _norm(bert, _linear(bert, new, f"{name}.dense") + states, f"{name}.LayerNorm")


def _linear(bert: Bert, states: Floats, name: str) -> Floats:
    weight = bert.weights[f"{name}.weight"]
    product = np.einsum("...d,ed->...e", states, weight)  # without BLAS, whose threads wait busily
    result: Floats = product + bert.weights[f"{name}.bias"]
    return result


def _norm(bert: Bert, states: Floats, name: str) -> Floats:
    centred = states - states.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(bert.config["layer_norm_eps"]))
    scaled: Floats = centred / spread * bert.weights[f"{name}.weight"] + bert.weights[f"{name}.bias"]
    return scaled
