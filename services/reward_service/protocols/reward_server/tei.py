"""POST /predict, POST /rerank: Text Embeddings Inference, with raw scores.

    {"inputs": text, [prompt, response], or a list of [text] and [prompt, response]}
    200 [{"score": 3.41, "label": "LABEL_0"}]                  a list of such lists for a list of inputs
    {"query": prompt, "texts": [response]}
    200 [{"index": 1, "score": 3.41}, {"index": 0, "score": 1.2}]                          best first

Scores are raw logits, as with `raw_scores: true`; `false` is refused. A pair is a prompt and a response, scored as
`POST /score` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel

from reward_client.wire import MAX_LIST, ChatMessage
from reward_service.errors import InvalidRequestError, TooLargeError
from reward_service.models.protocols import Exchange, RawText
from reward_service.protocols.base import Call, GoldSpec, RouteSpec, WireModel
from reward_service.protocols.reward_server.inputs import Entry, Texts
from reward_service.protocols.reward_server.vllm import WHOLE_MODEL
from reward_service.scoring.gold_only import GoldJob, GoldReply
from reward_service.scoring.job import InvalidItem, ItemLimits, check_count

_PAIR = 2


class _Request(WireModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    raw_scores: Literal[True] = True
    """Scores are raw logits."""
    truncate: bool | None = None
    """Whether a text that is too long for the model is truncated; otherwise it is an error. Pairs always are."""
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"
    """The end of a text that is cut."""


class PredictRequest(_Request):
    """Texts, or pairs of prompt and response."""

    inputs: list[Any] | str
    """A text; a pair; or a list of lists of one text or of a pair."""


class RerankRequest(_Request):
    """Responses to one prompt."""

    query: str
    """The prompt."""
    texts: Annotated[list[str], Field(max_length=MAX_LIST)]
    """The responses."""
    return_text: bool = False
    """Whether the reply repeats the texts."""


class Prediction(WireModel):
    """The score of one input."""

    score: float
    """The raw logit."""
    label: str = "LABEL_0"
    """Always `LABEL_0`."""


class Predictions(RootModel[list[Prediction] | list[list[Prediction]]]):
    """One score, or of each input a list of one score."""


class Rank(WireModel):
    """The score of one of the texts."""

    index: int
    """Of the text in the request."""
    score: float
    """The raw logit."""


class RankWithText(Rank):
    """With `return_text`."""

    text: str
    """The text."""


class Ranks(RootModel[list[RankWithText | Rank]]):
    """The best text first."""


def _predict_job(body: PredictRequest, call: Call) -> GoldJob:
    inputs = body.inputs
    if not inputs:
        raise InvalidRequestError.in_field("inputs", "has no text")
    is_batch = isinstance(inputs, list) and any(isinstance(one, list) for one in inputs)
    posted = list(inputs) if is_batch else [inputs]
    check_count(len(posted), call.settings.max_items, "inputs")

    def reply(scored: GoldReply) -> Predictions:
        each = [[Prediction(score=score)] for score in scored.scores]
        return Predictions(each if is_batch else each[0])

    def path(index: int, _: str) -> str:
        return f"inputs.{index}" if is_batch else "inputs"

    return GoldJob(_inputs(posted, body, call), path, reply)


def _inputs(posted: list[Any], body: _Request, call: Call) -> Iterator[Entry]:
    limits = ItemLimits(call.settings)
    most = WHOLE_MODEL if body.truncate else None
    keeps_end = body.truncation_direction.lower() == "left"
    for index, one in enumerate(posted):
        texts = one if isinstance(one, list) else [one]
        if not 1 <= len(texts) <= _PAIR or not all(isinstance(text, str) for text in texts):
            yield InvalidItem("", "must be a text, or a pair of texts: [prompt, response]")
        elif limits.texts_fit(index, [("inputs", text) for text in texts]):
            yield _pair(*texts) if len(texts) == _PAIR else RawText(texts[0], True, most, keeps_end)
    limits.check()


def _pair(prompt: str, response: str) -> Exchange:
    return Exchange((ChatMessage(role="user", content=prompt),), response)


def _ranked(body: RerankRequest, texts: Texts, limits: ItemLimits) -> Iterator[Entry]:
    for index, text in enumerate(body.texts):
        if limits.texts_fit(index, [("query", body.query), (texts.path(index, ""), text)]):
            yield _pair(body.query, text)
    limits.check()


def _check_query(body: RerankRequest, limits: ItemLimits) -> None:
    """Raise TooLargeError if the query is too long, alone or counted for each text."""
    limits.fits(None, "query", len(body.query), limits.settings.max_text_chars, "characters")
    limits.check()
    n_chars, most = len(body.texts) * len(body.query) + sum(map(len, body.texts)), limits.settings.max_body_bytes
    if n_chars > most:
        message = f"counts for each text: together they have {n_chars} characters, at most {most} (max_body_bytes)"
        raise TooLargeError.in_field("query", f"{message} are allowed; send fewer texts")


def _rerank_job(body: RerankRequest, call: Call) -> GoldJob:
    texts = Texts.of("texts", body.texts, call)
    limits = ItemLimits(call.settings)
    _check_query(body, limits)

    def reply(scored: GoldReply) -> Ranks:
        ranks = [
            RankWithText(index=i, score=score, text=text) if body.return_text else Rank(index=i, score=score)
            for i, (score, text) in enumerate(zip(scored.scores, body.texts, strict=True))
        ]
        return Ranks(sorted(ranks, key=lambda rank: -rank.score))

    return GoldJob(_ranked(body, texts, limits), texts.path, reply, (len(body.texts) - 1) * len(body.query))


PROTOCOLS = (
    GoldSpec(
        name="tei",
        routes=[RouteSpec("/predict", "Gold scores, as Text Embeddings Inference returns those of a classifier")],
        request_model=PredictRequest,
        reply_model=Predictions,
        example={"inputs": [["Why is the sky blue?", "Air scatters blue light most."]]},
        job=_predict_job,
    ),
    GoldSpec(
        name="tei",
        routes=[RouteSpec("/rerank", "Gold scores of responses to a prompt, as a re-ranker returns them")],
        request_model=RerankRequest,
        reply_model=Ranks,
        example={"query": "Why is the sky blue?", "texts": ["Air scatters blue light most.", "Because."]},
        job=_rerank_job,
    ),
)
