"""The wire: the one definition of what travels between the service and whoever asks it.

    ScoreRequest ── items: [Item] ──▶ POST /score ──▶ ScoreReply ── results: [ItemResult]
    anything wrong ─────────────────────────────────▶ Problem (RFC 9457) ── errors: [FieldError]
    GET /info ──────────────────────────────────────▶ Info

The service imports these types too, so neither side can drift from the other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = [
    "MAX_LIST",
    "ChatMessage",
    "Features",
    "FieldError",
    "Info",
    "Item",
    "ItemError",
    "ItemResult",
    "LimitsInfo",
    "ModelInfo",
    "ModelNames",
    "OnItemError",
    "Problem",
    "QueryType",
    "QueryTypeSource",
    "RecipeInfo",
    "RecipeName",
    "ScoreReply",
    "ScoreRequest",
    "Text",
    "TimingMs",
]


class QueryType(StrEnum):
    """What kind of answer a prompt asks for: it decides which branch of the reward applies."""

    OPEN_ENDED = "open_ended"
    CLOSED_ENDED = "closed_ended"


_DATASET_SPELLINGS = {"OPENENDED": QueryType.OPEN_ENDED, "CONSTRAINED": QueryType.CLOSED_ENDED}


def _from_dataset_spelling(value: object) -> object:
    """Translate the spellings of the published RER data sets at the edge."""
    return _DATASET_SPELLINGS.get(value, value) if isinstance(value, str) else value


AnyQueryType = Annotated[QueryType, BeforeValidator(_from_dataset_spelling)]
QueryTypeSource = Literal["given", "default", "classifier"]
OnItemError = Literal["fail", "report"]


MAX_LIST = 65_536
"""Entries of any list of a request: what is beyond is refused unread. A service's own limit is lower."""


def _is_unicode(text: str) -> str:
    """A lone surrogate is no character: tokenizers stop at it."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError("holds a lone surrogate, which is no Unicode text") from exc
    return text


Text = Annotated[str, AfterValidator(_is_unicode)]
"""Text of a prompt, a response, a reference."""


class _Wire(BaseModel):
    """A misspelt field is an error, never ignored; NaN and infinity are no numbers here."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class ChatMessage(_Wire):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text


class Item(_Wire):
    """One (prompt, response) to score."""

    prompt: Text | Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_LIST)]
    """The user's text, or the conversation up to the response."""
    response: Text
    """The policy's text after the prompt. May be empty: an empty answer has a reward, and a flag."""
    reference: Text | None = None
    """Reference answer; needed when `query_type` is `closed_ended`."""
    query_type: AnyQueryType | None = None
    id: str | None = None
    """Echoed in the result and in errors."""


class ScoreRequest(_Wire):
    """The body of `POST /score`."""

    items: Annotated[list[Item], Field(min_length=1, max_length=MAX_LIST)]
    recipe: str | None = None
    """A name that `GET /info` lists; the service's default when absent."""
    recipe_overrides: dict[str, Any] | None = None
    """Recipe parameters for this request; the hash in the reply covers them."""
    query_type_default: AnyQueryType | None = None
    """For items with a reference and no `query_type`, which are an error without it."""
    gold: bool = False
    """Also score with the gold reward model."""
    on_item_error: OnItemError = "fail"
    """`fail`: one bad item fails the request. `report`: it gets `reward: null` and an `error`."""
    run: str | None = None
    """Training run that these rewards belong to."""
    step: Annotated[int, Field(ge=0)] | None = None
    """Optimizer step of that run."""


class Features(_Wire):
    """Interpretable features behind one reward; `null` where a feature does not apply to the item."""

    length_incentive: float | None = None
    """words / 100."""
    repetition_penalty: float | None = None
    """Distinct word trigrams / word trigrams, in (0, 1]; 1 means no repetition."""
    query_relevance: float | None = None
    """Similarity of prompt and response, as the recipe measures it."""
    reference_relevance: float | None = None
    """Similarity of reference and response, as the recipe measures it."""


class ItemError(_Wire):
    """Why an item has no reward (`on_item_error: report`)."""

    field: str
    message: str


class ItemResult(_Wire):
    """The reward of one item, taken apart."""

    reward: float | None
    """Null only together with `error`."""
    gold_reward: float | None = None
    query_type: QueryType | None = None
    query_type_source: QueryTypeSource | None = None
    features: Features = Features()
    flags: list[str] = []
    """What was noticed: `empty`, and at foreign edges `truncated`, `special_tokens_removed`, …"""
    id: str | None = None
    error: ItemError | None = None


class RecipeName(_Wire):
    """Which reward was computed; the hash covers the recipe's content and the request's overrides."""

    name: str
    hash: str


class ModelNames(_Wire):
    """Which models took part, and a hash of their weights; null when one was not asked."""

    relevance: str | None
    gold: str | None
    relevance_revision: str | None = None
    gold_revision: str | None = None


class TimingMs(_Wire):
    """Milliseconds spent on this request, by stage."""

    queue: float
    """From the submission to a model until the first batch with an item of this request began."""
    encode: float
    """Forward passes of the encoder that this request took part in; others may have shared them."""
    gold: float | None
    total: float


class TextCounts(_Wire):
    """Where the vectors of this request's different texts came from."""

    cached: int = 0
    """Known from an earlier request."""
    shared: int = 0
    """Being encoded for another request at the same time."""
    encoded: int = 0
    """Encoded for this request."""


class ScoreReply(_Wire):
    """The answer of `POST /score`: same order and length as the request's items."""

    rewards: list[float | None]
    results: list[ItemResult]
    recipe: RecipeName
    models: ModelNames
    timing_ms: TimingMs
    texts: TextCounts = TextCounts()
    notices: list[str] = []
    """What a reader of these numbers must know (a demo gold model, for instance)."""


class FieldError(_Wire):
    """One thing that is wrong with a request."""

    item: int | None = None
    """Index in `items`, when one item is at fault."""
    id: str | None = None
    """That item's `id`, when it has one."""
    field: str
    """Dotted path of the field, `items.3.reference` for instance."""
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem document: what went wrong, whose fault it is, and what to do."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class RecipeInfo(_Wire):
    """One recipe that the service knows."""

    name: str
    hash: str
    description: str
    reward_range: tuple[float, float]
    """Interval that maps to OpenRLHF's `scores` in [0, 1], and that a trainer's clip must cover."""
    calibrated_for: str | None
    """Encoder whose similarities the recipe's ranges were measured on; null when any encoder will do."""
    needs_encoder: bool
    needs_gold: bool
    parameters: dict[str, Any]
    """Every parameter that `recipe_overrides` may set, with its value."""


class ModelInfo(_Wire):
    """One loaded model."""

    id: str
    revision: str
    device: str
    backend: str | None = None
    """What runs it, and in which number format."""
    notices: list[str] = []


class LimitsInfo(_Wire):
    """What a client must stay within; over a limit the service answers 413."""

    max_body_bytes: int
    max_items: int
    max_text_chars: int


class Info(_Wire):
    """The answer of `GET /info`."""

    version: str
    default_recipe: str
    recipes: list[RecipeInfo]
    relevance: ModelInfo | None
    gold: ModelInfo | None
    limits: LimitsInfo
    versions: dict[str, str]
    """Versions of the libraries that the numbers depend on."""
