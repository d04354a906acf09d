"""Reply bodies. Tolerant: a client ignores fields that a newer service adds. NaN and infinity never occur."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from reward_client.wire import notebook
from reward_client.wire.requests import QueryType

GOLDS = {"golds"}
"""Field that replies of a service with one gold model lack: they are those of earlier releases."""
QueryTypeSource = Literal["given", "default", "classifier"]


class Reply(BaseModel):
    """What all replies have in common."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)

    def fields(self) -> dict[str, Any]:
        """What JSON has of it: `golds` is left out unless there are several gold models."""
        return self.model_dump(mode="json", exclude=None if getattr(self, "golds", None) else GOLDS)


class ItemError(Reply):
    """Why an item has no reward (`on_item_error: report`)."""

    field: str
    """Name of the item's field that is wrong."""
    message: str
    """What is wrong with it."""


class Attribution(Reply):
    """How a reward is composed (`explain: true`): `baseline_reward` plus the sum of `parts` is the reward.

    A part is the Shapley value of its factor: what it adds when it replaces its baseline value, averaged over all
    orders in which the factors can be replaced. The baseline of a factor is 1, which leaves a product as it is;
    that of a constant is its value. An empty response that earns 0 has the factor `empty`, which is 0.

    Ranges of the response are [start, end) in code points, in order, without overlaps.
    """

    baseline_reward: float
    """The product of the baseline of all factors: the same for every item of a recipe and query type."""
    factors: dict[str, float]
    """By feature name: the values that were multiplied, after the recipe's mapping."""
    baseline: dict[str, float]
    """What each factor is compared with."""
    parts: dict[str, float]
    """By feature name: what each factor adds to the reward; see above."""
    evaluated: list[tuple[int, int]] = []
    """The parts of the response that text features see; the others were cut or dropped."""
    repeated: list[tuple[int, int]] = []
    """Words of trigrams that occur earlier in the evaluated text. Ranges beyond a limit are left out."""


class ItemResult(Reply):
    """The reward of one item and the features behind it."""

    reward: float | None
    """Null only together with `error`."""
    gold_reward: float | None = None
    """Score of the primary gold model, if it was requested."""
    golds: dict[str, float] = {}
    """Scores of all gold models by id, the primary one first; only if several scored the item."""
    query_type: QueryType | None = None
    """Kind of answer that the reward was computed for."""
    query_type_source: QueryTypeSource | None = None
    """Where the query type is from: the item, a default, or the classifier's guess."""
    features: dict[str, float | None] = {}
    """Values by feature name, null where a feature does not apply to the item; `GET /info` describes features."""
    flags: list[str] = []
    """Observations about the item: `empty`, `reasoning`, `cut_at_stop_string`, `invisible_characters`,
    `relevance_unreadable`, …; with OpenRLHF also `truncated`, `special_tokens_removed`, …"""
    id: str | None = None
    """The item's id."""
    error: ItemError | None = None
    """Why the item has no reward."""
    attribution: Attribution | None = None
    """Only for a request with `explain`, and an item with a reward."""

    def numbers(self) -> dict[str, float]:
        """The features that apply to the item, and its gold reward if it has one, by name."""
        found = {name: value for name, value in self.features.items() if value is not None}
        return found if self.gold_reward is None else found | {"gold_reward": self.gold_reward}

    def _repr_html_(self) -> str:
        """What a notebook shows: the reward and what is behind it."""
        return notebook.item_html(self.model_dump(mode="json"))


class RecipeName(Reply):
    """Which reward was computed; the hash covers the recipe's content and the request's overrides."""

    name: str
    """Name of the recipe."""
    hash: str
    """Hash of its content and of the request's overrides."""


class ModelNames(Reply):
    """The models that were used and a hash of their weights; null for a model that was not used."""

    relevance: str | None
    """Id of the encoder."""
    gold: str | None
    """Id of the primary gold model."""
    relevance_revision: str | None = None
    """Hash of the encoder's weights."""
    gold_revision: str | None = None
    """Hash of the primary gold model's weights."""
    golds: dict[str, str] = {}
    """Hashes of the weights of all gold models by id, the primary one first; only if several scored."""


class TimingMs(Reply):
    """Milliseconds spent on this request, by stage."""

    queue: float
    """From submission to a model until the first batch with an item of this request started."""
    encode: float
    """Forward passes of the encoder with items of this request; batches may be shared with other requests."""
    gold: float | None
    """Forward passes of the gold model, likewise, or of the slowest one; null if none was used."""
    total: float
    """From the parsed request to the results."""


class TextCounts(Reply):
    """Distinct texts of this request by the source of their embedding."""

    cached: int = 0
    """Cached from an earlier request."""
    shared: int = 0
    """Already being encoded for another request."""
    encoded: int = 0
    """Encoded for this request."""


class ScoreReply(Reply):
    """The reply of `POST /score`, in the order of the request's items."""

    rewards: list[float | None]
    """One for each item; null for an item with an `error`."""
    results: list[ItemResult]
    """One for each item, with what its reward is made of."""
    recipe: RecipeName
    """What was computed."""
    models: ModelNames
    """What it was computed with."""
    timing_ms: TimingMs
    """How long it took."""
    texts: TextCounts = TextCounts()
    """How many texts had to be encoded."""
    notices: list[str] = []
    """What a reader of these rewards must know, for instance that the gold model is a demo model."""

    def _repr_html_(self) -> str:
        """What a notebook shows: the mean reward, and the first items."""
        first = self.model_copy(update={"results": self.results[: notebook.MAX_ITEMS]})
        return notebook.reply_html(first.model_dump(mode="json"), self.rewards)
