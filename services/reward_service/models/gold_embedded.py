"""Gold models on the embedded encoder's weights, on a CPU, by OpenVINO, without torch and Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from reward_client.base_weights import file_digest
from reward_service.models.bert import Bert
from reward_service.models.bert_graph import gold_graph
from reward_service.models.bert_values import example, scores
from reward_service.models.embedded import EmbeddedTokenizer, embedded_bert
from reward_service.models.gold_delta import DELTA_FILE, DeltaConfig, check_names, gold_revision
from reward_service.models.gold_text import CPU_LIMITS, GoldText, PairText
from reward_service.models.openvino_cpu import OpenVinoForward
from reward_service.models.protocols import Exchange, RawText, Tokens

_PREFIX = "bert."
"""Start of the names in a delta of the weights that the base has."""

_HEAD = {"classifier.weight", "classifier.bias"}


class OpenVinoGold:
    """A reward model with one label. `text` converts an exchange to the tokens that it reads."""

    limits = CPU_LIMITS
    device = "cpu"

    def __init__(
        self,
        forward: OpenVinoForward,
        text: GoldText,
        pad_id: int,
        *,
        id: str,  # noqa: A002 - the Protocol's name
        revision: str,
        notices: tuple[str, ...],
        encoder_base: str,
    ) -> None:
        self.id = id
        self.revision = revision
        self.backend = forward.name
        self.notices = notices
        self.encoder_base: str | None = encoder_base
        self._forward = forward
        self._text = text
        self._pad_id = pad_id

    def tokenize(self, exchange: Exchange) -> Tokens:
        """Tokens of `exchange`. Raises ValueError, with the reason, when the model's format cannot express it."""
        return self._text(exchange)

    def tokenize_text(self, text: RawText) -> Tokens:
        """Tokens of `text`. Raises ValueError, with the reason, when the model cannot read it."""
        return self._text.raw(text)

    def score(self, batch: Sequence[Tokens]) -> list[float]:
        """One forward pass over right-padded rows (B, T); the logits as B floats."""
        values: list[float] = self._forward(batch, self._pad_id).tolist()
        return values


def load(spec: str, folder: Path, config: DeltaConfig, threads: int | None) -> OpenVinoGold:
    """The model in `folder`. Raises any error: the caller then loads it with Transformers."""
    config.base_folder(folder)  # the base's weights are those of the delta
    bert = _with_delta(embedded_bert(), folder, config)
    forward = OpenVinoForward(gold_graph(bert), "fp32", threads)
    inputs = example(bert.config["vocab_size"])
    forward.check(inputs, scores(bert, inputs))
    tokenizer = EmbeddedTokenizer()
    return OpenVinoGold(
        forward,
        PairText(tokenizer, config.text_pair).fitting(bert.config["max_position_embeddings"]),
        tokenizer.pad_token_id,
        id=spec,
        revision=gold_revision([bytes.fromhex(config.base_revision), file_digest(folder / DELTA_FILE)]),
        notices=config.notices,
        encoder_base=config.base,
    )


def _with_delta(base: Bert, folder: Path, config: DeltaConfig) -> Bert:
    """`base` with the delta in `folder`. Raises ValueError when that has other whole parameters than a head's."""
    if set(config.whole) != _HEAD:
        raise ValueError(f"config.json names {', '.join(config.whole)} as `whole`, and not the head alone")
    delta = load_file(folder / DELTA_FILE)
    check_names(delta, config)
    weights = dict(base.weights)
    for name in config.changed:
        own = name.removeprefix(_PREFIX)
        weights[own] = np.add(weights[own], delta[name], out=np.empty_like(weights[own]))
    weights |= {name: delta[name].astype(np.float32) for name in config.whole}
    return Bert(weights, base.config)
