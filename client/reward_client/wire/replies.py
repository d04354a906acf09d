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


class RecipeInfo(Reply):
    """One recipe of the service."""

    name: str
    """Name for `recipe` of a request."""
    hash: str
    """Hash of its content without overrides."""
    description: str
    """What it rewards."""
    reward_range: tuple[float, float]
    """Interval that maps to OpenRLHF's `scores` in [0, 1], and that a trainer's clip must cover."""
    calibrated_for: str | None
    """Encoder that the recipe's ranges were measured with; null when they fit any encoder."""
    needs_encoder: bool
    """Whether it needs the relevance encoder."""
    needs_gold: bool
    """Whether the gold model's score is part of the reward."""
    parameters: dict[str, Any]
    """Every parameter that `recipe_overrides` may set, with its value."""
    constants: dict[str, float] = {}
    """Values of the factors that are the same for every response, by feature name."""
    formula: dict[str, str] = {}
    """The product of factors for each query type, as people read it."""


class FeatureInfo(Reply):
    """One feature that recipes can use, built in or from a plug-in."""

    name: str
    """Key in `features` of a result, and factor name in recipes."""
    label: str
    """Short name for people."""
    description: str = ""
    """How the feature is computed, in one line."""
    range: tuple[float, float] | None = None
    """Lowest and highest value with the default recipe's parameters; null when the feature is unbounded."""
    log_key: str | None = None
    """Key in OpenRLHF's `extra_logs`; null when the feature is not logged."""
    needs: str | None = None
    """What it is computed from: nothing (a constant), text, encoder or gold; null from an older service."""


class ModelInfo(Reply):
    """One loaded model."""

    id: str
    """Name of the model: of the embedded one, on the hub, or its folder."""
    revision: str
    """Hash of its weights."""
    device: str
    """Torch device, or the server, that runs it."""
    backend: str | None = None
    """Library and number format that the model runs with."""
    notices: list[str] = []
    """What a reader of its results must know."""


class LimitsInfo(Reply):
    """Limits of one request; the service answers 413 above them. An older service sends the first three only."""

    max_body_bytes: int
    """Bytes of one body."""
    max_items: int
    """Items of one request."""
    max_text_chars: int
    """Characters of one text."""
    max_item_chars: int | None = None
    """Characters of all texts of one item together."""
    max_messages: int | None = None
    """Messages of one prompt."""
    max_references: int | None = None
    """References of one item."""
    max_request_references: int | None = None
    """References of all items of one request that have several, also those found in a data set."""
    max_request_chars: int | None = None
    """Characters of all texts of one request; those of a query for several texts, and of references in a data set,
    count for each item."""
    max_request_sentences: int | None = None
    """Sentences of all responses of one request, for features that compare sentences."""
    max_id_chars: int | None = None
    """Characters of `id`, of `run`, and of the name of a model."""
    max_object_keys: int | None = None
    """Keys of one JSON object."""
    max_key_chars: int | None = None
    """Characters of one key."""
    max_list_elements: int | None = None
    """Elements of one list."""
    max_metric_fields: int | None = None
    """Numbers by task and field of one request for NeMo-Gym's statistics."""
    max_values: int | None = None
    """JSON values of one body."""
    max_override_values: int | None = None
    """Values in `recipe_overrides`, nested ones included."""
    max_override_chars: int | None = None
    """Characters of those values."""
    max_stop_strings: int | None = None
    """Stop strings of a request."""
    max_stop_string_chars: int | None = None
    """Characters of one stop string."""
    max_url_parameters: int | None = None
    """Parameters in the query of a URL."""
    max_upload_bytes: int | None = None
    """Bytes of one uploaded data set."""
    max_dataset_rows: int | None = None
    """Rows of one data set."""
    max_datasets: int | None = None
    """Data sets of all callers together."""
    datasets_bytes: int | None = None
    """Bytes of the data sets of all callers together."""


class Info(Reply):
    """The reply of `GET /info`."""

    version: str
    """Release of the service."""
    wire_version: int = 1
    """Newest version of the wire format that the service speaks; release 0.1 does not send it."""
    default_recipe: str
    """Recipe of requests without one."""
    recipes: list[RecipeInfo]
    """Recipes that requests may name."""
    features: list[FeatureInfo] = []
    """Features that recipes can use."""
    relevance: ModelInfo | None
    """The encoder; null if it is switched off or loading."""
    gold: ModelInfo | None
    """The primary gold model; null if it is switched off or loading."""
    golds: list[ModelInfo] = []
    """All gold models that are loaded, the primary one first; only if the service has several."""
    models: dict[str, str] | None = None
    """State of each model that the service was started with, by its name in logs and metrics (encoder, gold,
    gold-2, …): loading, loaded or failed; null from an older service."""
    limits: LimitsInfo
    """Limits of one request."""
    versions: dict[str, str]
    """Versions of the libraries that the rewards depend on, plug-ins included."""
