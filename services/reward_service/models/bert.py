"""A BERT as weights and config, for `bert_graph` and for `bert_values`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ASSUMED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


@dataclass(frozen=True)
class Bert:
    """Weights in fp32 by the names of `BertModel`, of a gold model with `classifier`; and its `config.json`."""

    weights: Mapping[str, NDArray[np.float32]]
    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name, value in _ASSUMED.items():
            if self.config[name] != value:
                raise ValueError(f"its {name} is {self.config[name]}, and only {value} is built here")

    @property
    def layers(self) -> list[str]:
        """Names of the layers, from the lowest."""
        return [f"encoder.layer.{index}" for index in range(self.config["num_hidden_layers"])]

    @property
    def head_shape(self) -> tuple[int, int]:
        """Number of attention heads, and elements of each."""
        heads = self.config["num_attention_heads"]
        return heads, self.config["hidden_size"] // heads
