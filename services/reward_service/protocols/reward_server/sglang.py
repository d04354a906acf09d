"""POST /v1/embeddings: SGLang's server of a reward model, as verl uses it; its `/classify` is in `vllm`.

{"model": "…", "input": text or [text]}
200 {"data": [{"object": "embedding", "embedding": [3.41], "index": 0}], …}
"""

from __future__ import annotations

from reward_service.protocols.base import Call, GoldSpec, RouteSpec, WireModel
from reward_service.protocols.reward_server.vllm import (
    ANSWER_S,
    HOLD_S,
    ListReply,
    PoolingRequest,
    common,
    gold_job,
)
from reward_service.scoring.gold_only import GoldJob, GoldReply


class Embedding(WireModel):
    """The score of one text."""

    object: str = "embedding"
    """Always `embedding`."""
    embedding: list[float]
    """The raw logit."""
    index: int
    """Of the text in the request."""


class EmbeddingsReply(ListReply):
    """Scores, in the order of the texts."""

    data: list[Embedding]
    """One for each text."""


def _job(body: PoolingRequest, call: Call) -> GoldJob:
    def reply(scored: GoldReply) -> EmbeddingsReply:
        data = [Embedding(embedding=[score], index=i) for i, score in enumerate(scored.scores)]
        return EmbeddingsReply(**common("embd", scored, body.model), data=data)

    return gold_job(body, call, reply)


PROTOCOLS = (
    GoldSpec(
        name="sglang",
        routes=[RouteSpec("/v1/embeddings", "Gold scores, as SGLang returns those of a reward model")],
        request_model=PoolingRequest,
        reply_model=EmbeddingsReply,
        example={"input": "Why is the sky blue? Air scatters blue light most."},
        job=_job,
        hold_s=HOLD_S,
        answer_s=ANSWER_S,
    ),
)
