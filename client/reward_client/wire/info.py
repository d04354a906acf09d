"""The reply of `GET /info`: recipes, features, models, limits and versions of a service."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from reward_client.wire.replies import Reply


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
    constants: dict[str, float] = Field(default_factory=dict)
    """Values of the factors that are the same for every response, by feature name."""
    formula: dict[str, str] = Field(default_factory=dict)
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
    notices: list[str] = Field(default_factory=list)
    """What a reader of its results must know."""
    base: str | None = None
    """Model whose weights a gold model was fitted on, where that is known."""


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
    max_other_requests: int | None = None
    """Unanswered uploads of one caller, and as many of its other unanswered requests that are not for scoring; the
    next one is answered with 429."""
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
    features: list[FeatureInfo] = Field(default_factory=list)
    """Features that recipes can use."""
    relevance: ModelInfo | None
    """The encoder; null if it is switched off or loading."""
    gold: ModelInfo | None
    """The primary gold model; null if it is switched off or loading."""
    golds: list[ModelInfo] = Field(default_factory=list)
    """All gold models that are loaded, the primary one first; only if the service has several."""
    models: dict[str, str] | None = None
    """State of each model that the service was started with, by its name in logs and metrics (encoder, gold,
    gold-2, …): loading, loaded or failed; null from an older service."""
    limits: LimitsInfo
    """Limits of one request."""
    versions: dict[str, str]
    """Versions of the libraries that the rewards depend on, plug-ins included."""
