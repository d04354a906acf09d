"""The wire format: every message between the service and its clients, defined once for both.

requests.py   ScoreRequest ── items: [Item]            strict: an unknown field is an error
texts.py      the texts in them, as data sets and chat APIs write them
replies.py    ScoreReply ── results: [ItemResult]    tolerant: an unknown field is ignored
info.py       Info ── limits: LimitsInfo, …          tolerant, too
datasets.py   DatasetList ── datasets: [DatasetInfo]   tolerant, too
notebook.py   how notebooks show replies
shared_base.py  the notice that a gold model is fitted on another model's weights
problem.py    Problem (RFC 9457) ── errors: [FieldError]
version.py    the version number and the compatibility policy
"""

from reward_client.wire.datasets import DatasetInfo, DatasetList
from reward_client.wire.info import FeatureInfo, Info, LimitsInfo, ModelInfo, RecipeInfo
from reward_client.wire.problem import FieldError, Problem
from reward_client.wire.replies import (
    Attribution,
    ItemError,
    ItemResult,
    ModelNames,
    QueryTypeSource,
    RecipeName,
    ScoreReply,
    TextCounts,
    TimingMs,
)
from reward_client.wire.requests import (
    MAX_LIST,
    AnyQueryType,
    ChatMessage,
    DatasetMiss,
    DatasetRow,
    Duplicates,
    Item,
    OnItemError,
    QueryType,
    ScoreRequest,
)
from reward_client.wire.texts import (
    MAX_REFERENCES,
    Reference,
    ScalarText,
    Text,
    error_message,
    error_path,
    usable_references,
)
from reward_client.wire.version import WIRE_VERSION, WIRE_VERSION_HEADER

__all__ = [
    "MAX_LIST",
    "MAX_REFERENCES",
    "WIRE_VERSION",
    "WIRE_VERSION_HEADER",
    "AnyQueryType",
    "Attribution",
    "ChatMessage",
    "DatasetInfo",
    "DatasetList",
    "DatasetMiss",
    "DatasetRow",
    "Duplicates",
    "FeatureInfo",
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
    "Reference",
    "ScalarText",
    "ScoreReply",
    "ScoreRequest",
    "Text",
    "TextCounts",
    "TimingMs",
    "error_message",
    "error_path",
    "usable_references",
]
