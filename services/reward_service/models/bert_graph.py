"""A BERT as a graph of OpenVINO, from its weights: no torch, no Transformers, and nothing is traced.

    ids, mask, types ─▶ embeddings ─▶ layers ─┬─▶ mean over tokens                    relevance encoder
                                              └─▶ first token ─▶ pooler ─▶ classifier gold model

The operations are those that OpenVINO's converter makes of `BertModel` of Transformers. So states are identical,
and vectors differ in the last bit, because OpenVINO divides by the number of tokens in another way.
Architecture: Devlin et al. 2019, https://arxiv.org/abs/1810.04805.
"""

from __future__ import annotations

import numpy as np
import openvino
from openvino import opset13 as ops

from reward_service.models.bert import Bert


def encoder_graph(bert: Bert) -> openvino.Model:
    """Vectors (B, D): the mean of the last states over the tokens of each row."""
    return _Graph(bert).mean()


def gold_graph(bert: Bert) -> openvino.Model:
    """Scores (B,) of a classifier with one label."""
    return _Graph(bert).score()


class _Graph:
    """States (B, T, D) of the last layer, and what is computed from them."""

    def __init__(self, bert: Bert) -> None:
        self._bert = bert
        names = ("input_ids", "attention_mask", "token_type_ids")
        self._inputs = [ops.parameter([-1, -1], np.int64, name) for name in names]
        ids, mask, types = self._inputs
        length = ops.gather(ops.shape_of(ids), _int(1), _int(0))
        positions = ops.unsqueeze(ops.range(_int(0), length, _int(1), "i64"), _int(0))
        words = ops.add(self._embedded("word", ids), self._embedded("token_type", types))
        states = self._norm(ops.add(words, self._embedded("position", positions)), "embeddings.LayerNorm")
        attended = ops.unsqueeze(ops.convert(mask, "boolean"), _int([1, 2]))
        for name in bert.layers:
            states = self._layer(states, attended, name)
        self._states = states

    def mean(self) -> openvino.Model:
        mask = ops.convert(ops.unsqueeze(self._inputs[1], _int(2)), "f32")
        total = ops.reduce_sum(ops.multiply(self._states, mask), _int(1))
        count = ops.maximum(ops.reduce_sum(mask, _int(1)), ops.constant(np.float32(1e-9)))
        return openvino.Model([ops.divide(total, count)], self._inputs)

    def score(self) -> openvino.Model:
        first = ops.gather(self._states, _int(0), _int(1))
        logits = self._linear(ops.tanh(self._linear(first, "pooler.dense")), "classifier")
        return openvino.Model([ops.squeeze(logits, _int(1))], self._inputs)

    def _layer(self, states: openvino.Node, attended: openvino.Node, name: str) -> openvino.Node:
        query, key, value = (
            self._divided(self._linear(states, f"{name}.attention.self.{part}"))
            for part in ("query", "key", "value")
        )
        context = ops.transpose(ops.scaled_dot_product_attention(query, key, value, attended), _int([0, 2, 1, 3]))
        joined = ops.reshape(context, _int([0, 0, self._bert.config["hidden_size"]]), special_zero=True)
        states = self._added(joined, states, f"{name}.attention.output")
        inner = ops.gelu(self._linear(states, f"{name}.intermediate.dense"), "erf")
        return self._added(inner, states, f"{name}.output")

    def _divided(self, states: openvino.Node) -> openvino.Node:
        """States (B, T, D) by attention head: (B, heads, T, D / heads)."""
        shape = _int([0, 0, *self._bert.head_shape])
        return ops.transpose(ops.reshape(states, shape, special_zero=True), _int([0, 2, 1, 3]))

    def _added(self, new: openvino.Node, states: openvino.Node, name: str) -> openvino.Node:
        return self._norm(ops.add(self._linear(new, f"{name}.dense"), states), f"{name}.LayerNorm")

    def _embedded(self, name: str, indices: openvino.Node) -> openvino.Node:
        return ops.gather(self._weight(f"embeddings.{name}_embeddings.weight"), indices, _int(0))

    def _linear(self, states: openvino.Node, name: str) -> openvino.Node:
        product = ops.matmul(states, self._weight(f"{name}.weight"), transpose_a=False, transpose_b=True)
        return ops.add(product, self._weight(f"{name}.bias"))

    def _norm(self, states: openvino.Node, name: str) -> openvino.Node:
        scaled = ops.mvn(states, _int([-1]), True, self._bert.config["layer_norm_eps"], "inside_sqrt")
        return ops.add(ops.multiply(scaled, self._weight(f"{name}.weight")), self._weight(f"{name}.bias"))

    def _weight(self, name: str) -> openvino.Node:
        return ops.constant(self._bert.weights[name], shared_memory=True)


def _int(value: int | list[int]) -> openvino.Node:
    return ops.constant(np.array(value, np.int64))
