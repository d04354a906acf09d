"""The embedded encoder on a CPU, by OpenVINO, without torch and Transformers."""

from __future__ import annotations

from reward_service.models.bert_graph import encoder_graph
from reward_service.models.bert_values import example, mean_vectors
from reward_service.models.embedded import EmbeddedTokenizer, embedded_bert
from reward_service.models.encoder_parts import MAX_TOKENS, EncoderParts, weights_revision
from reward_service.models.openvino_cpu import OpenVinoForward


def load_parts(precision: str, threads: int | None) -> EncoderParts:
    """The parts of the embedded encoder. Raises any error: the caller then loads it with Transformers."""
    bert = embedded_bert()
    forward = OpenVinoForward(encoder_graph(bert), precision, threads)
    inputs = example(bert.config["vocab_size"])
    forward.check(inputs, mean_vectors(bert, inputs))
    max_tokens = min(MAX_TOKENS, bert.config["max_position_embeddings"])
    return EncoderParts(EmbeddedTokenizer(), forward, weights_revision(sorted(bert.weights.items())), max_tokens)
