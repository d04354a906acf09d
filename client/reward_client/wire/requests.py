"""Request bodies. Strict: an unknown field is an error, and NaN and infinity are not accepted as numbers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from reward_client.wire.texts import Content, Reference, ScalarText, Text


class QueryType(StrEnum):
    """The kind of answer that a prompt requires; it selects the branch of the reward."""

    OPEN_ENDED = "open_ended"
    CLOSED_ENDED = "closed_ended"


_DATASET_SPELLINGS = {"OPENENDED": QueryType.OPEN_ENDED, "CONSTRAINED": QueryType.CLOSED_ENDED}


def _from_dataset_spelling(value: object) -> object:
    """Translate the spellings of the published RER data sets."""
    return _DATASET_SPELLINGS.get(value, value) if isinstance(value, str) else value


AnyQueryType = Annotated[QueryType, BeforeValidator(_from_dataset_spelling)]
OnItemError = Literal["fail", "report"]
Duplicates = Literal["fail", "join"]
"""What happens to two rows of a data set with the same prompt and other references."""
DatasetMiss = Literal["fail", "open_ended"]
"""What happens to an item without a reference whose prompt is not in the data set of its request."""

MAX_LIST = 65_536
"""Maximum length of a list in a request, checked while parsing; `max_items` of the service is lower."""

MAX_MESSAGES = 2_000
"""Maximum messages of a prompt, checked while parsing; `max_messages` of the service is lower."""


_TEXT, _MESSAGES = "(text)", "(messages)"


def _kind_of_prompt(value: object) -> str | None:
    if isinstance(value, (list, tuple)):
        return _MESSAGES
    return _TEXT if isinstance(value, str) else None


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)


class ChatMessage(_Request):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """Who wrote the message."""
    content: Content
    """Its text, or a list of text parts, which are joined."""


Prompt = Annotated[
    Annotated[Text, Tag(_TEXT)]
    | Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True), Tag(_MESSAGES)],
    Discriminator(
        _kind_of_prompt,
        custom_error_type="prompt_type",
        custom_error_message="must be text or a list of messages",
    ),
]
"""The user's text, or a conversation."""


class Item(_Request):
    """One (prompt, response) pair to score."""

    prompt: Prompt
    """The user's text, or the conversation before the response."""
    response: Text
    """The policy's text after the prompt. May be empty: an empty response has a reward and the flag `empty`."""
    reference: Reference | None = None
    """Reference answer, required when `query_type` is `closed_ended`; or several, of which the best counts."""
    query_type: AnyQueryType | None = None
    """Kind of answer that the prompt requires; open-ended when there is no reference."""
    id: ScalarText | None = None
    """Copied to the result and to errors."""


_EXAMPLE: dict[str, Any] = {
    "items": [{"prompt": "Why is the sky blue?", "response": "Air scatters blue light most."}],
    "explain": True,
}


class ScoreRequest(_Request):
    """The body of `POST /score`."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    items: Annotated[list[Item], Field(min_length=1, max_length=MAX_LIST)]
    """What to score, at most `max_items` of the service."""
    recipe: str | None = None
    """Name of a recipe that `GET /info` lists; the service's default recipe when absent."""
    recipe_overrides: dict[str, Any] | None = None
    """Recipe parameters for this request; the recipe hash in the reply covers them."""
    query_type_default: AnyQueryType | None = None
    """Query type of items that have a reference but no `query_type`; without it such an item is an error."""
    gold: bool = False
    """Also score with the gold reward model."""
    explain: bool = False
    """Also return the attribution of each reward; see `wire.Attribution`."""
    on_item_error: OnItemError = "fail"
    """`fail`: one bad item fails the request. `report`: a bad item gets `reward: null` and an `error`."""
    run: str | None = None
    """Training run that these rewards belong to."""
    step: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Optimizer step of that run."""


class DatasetRow(_Request):
    """One row of `PUT /datasets/{name}`, after its columns were renamed."""

    prompt: Prompt
    """The user's text, or the conversation before the response; rows are found by it."""
    reference: Reference | None = None
    """Reference answer, or several, of which the best counts."""
    query_type: AnyQueryType | None = None
    """Kind of answer that the prompt requires; the default of the upload when absent."""
