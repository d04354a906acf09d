"""Texts and messages in the bodies of reward-model servers, as entries of a GoldJob."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reward_service.errors import InvalidRequestError
from reward_service.models.protocols import Exchange, RawText
from reward_service.protocols.base import Call
from reward_service.protocols.chat_templates import PromptError
from reward_service.protocols.samples import content_texts, read_messages
from reward_service.scoring.job import InvalidItem, ItemLimits, check_count

IDS_REFUSED = "has token ids; send text, which this service tokenizes for its gold model"
Entry = Exchange | RawText | InvalidItem


@dataclass(frozen=True, slots=True)
class Texts:
    """The values of a field that is a text or a list of texts."""

    field: str
    values: Sequence[Any]
    is_list: bool

    @classmethod
    def of(cls, field: str, value: Any, call: Call) -> Texts:
        """The texts in `value`. Raises InvalidRequestError for token ids, or no text; TooLargeError."""
        values = value if isinstance(value, list) else [value]
        check_count(len(values), call.settings.max_items, "texts")
        if not values:
            raise InvalidRequestError.in_field(field, "has no text")
        if any(_is_token_ids(one) for one in values):
            raise InvalidRequestError.in_field(field, IDS_REFUSED)
        return cls(field, values, isinstance(value, list))

    def path(self, index: int, inner: str) -> str:
        """Path of a text in the body."""
        place = f"{self.field}.{index}" if self.is_list else self.field
        return f"{place}.{inner}" if inner else place

    def entries(self, call: Call, make: Callable[[str], RawText | Exchange]) -> Iterator[Entry]:
        """What `make` makes of each text. Raises TooLargeError at the end if some are over the limit."""
        limits = ItemLimits(call.settings)
        for index, text in enumerate(self.values):
            if not isinstance(text, str):
                yield InvalidItem("", "must be text")
            elif limits.fits(index, self.path(index, ""), len(text), call.settings.max_item_chars, "characters"):
                yield make(text)
        limits.check()


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, list) and any(isinstance(one, int) for one in value))


def conversation(messages: Sequence[Any], call: Call) -> Iterator[Entry]:
    """The exchange of `messages`, the last of which is the response. Raises TooLargeError."""
    limits = ItemLimits(call.settings)
    if not limits.fits(0, "messages", len(messages), call.settings.max_messages + 1, "messages"):
        limits.check()
    limits.texts_fit(0, content_texts("messages", messages))
    limits.check()
    try:
        turns = read_messages(messages)
    except PromptError as exc:
        yield InvalidItem("", str(exc))
        return
    if len(turns) < 2 or turns[-1].role != "assistant":
        yield InvalidItem("", "must end with the assistant's message that is scored, after at least one other")
        return
    texts = ((f"messages.{i}.content", turn.content) for i, turn in enumerate(turns))
    if limits.texts_fit(0, texts):
        yield Exchange(turns[:-1], turns[-1].content)
    limits.check()


def check_model(posted: str | None, call: Call) -> None:
    """Raise TooLargeError if the posted name of a model, which the reply repeats, is too long."""
    limits = ItemLimits(call.settings)
    limits.fits(None, "model", len(posted or ""), call.settings.max_id_chars, "characters")
    limits.check()


def other_model(posted: str | None, served: str) -> list[str]:
    """The notice for a request that names another model than the one that is served; ids may be paths."""
    if posted is None or _last_part(posted) == _last_part(served):
        return []
    return [f"the request names the model {posted!r}; these are scores of {served!r}"]


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold()
