"""The items of one request: what may be scored, within which limits, and everything that decides how.

posted item ─▶ ItemLimits     ─▶ scorable_item ─▶ ScorableItem, with a known query type ─▶ Job.entries
               413, at the end      └─ InvalidItem: 422, or reported as the item's result

Job.entries ─▶ ReferenceLookup (`dataset=NAME` in the URL) ─▶ with_needed_reference ─▶ scored
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reward_client.query_types.classifier import embedded_classifier
from reward_client.wire import (
    ChatMessage,
    FieldError,
    Item,
    OnItemError,
    QueryType,
    QueryTypeSource,
    usable_references,
)
from reward_service.batching import ModelWorker
from reward_service.errors import MAX_ERRORS, InvalidRequestError, TooLargeError, UnavailableError
from reward_service.features.recipe import Recipe
from reward_service.features.text import is_blank, prompt_text
from reward_service.models.protocols import GoldModel, Tokens
from reward_service.settings import Settings

GoldWorker = ModelWorker[GoldModel, Tokens, float]

BY_CLASSIFIER = "query_type_by_classifier"
"""Flag of an item whose query type is the classifier's guess."""
QueryTypeDefault = QueryType | Literal["classifier"] | None
"""The query type of items that have a reference and no query type; None: such an item is an error."""


@dataclass(frozen=True, slots=True)
class ScorableItem:
    """One response to score, with all inputs of its reward."""

    messages: tuple[ChatMessage, ...]
    response: str
    reference: str | None
    """The first one that is not blank."""
    query_type: QueryType
    query_type_source: QueryTypeSource
    id: str | None = None
    flags: tuple[str, ...] = ()
    alternatives: tuple[tuple[int, str], ...] = ()
    """All references that are not blank, if there are several, with their indices in the caller's list."""


@dataclass(frozen=True, slots=True)
class InvalidItem:
    """An item that cannot be scored, with the field that is wrong."""

    field: str
    message: str
    id: str | None = None


def _item_path(index: int, name: str) -> str:
    return f"items.{index}.{name}"


@dataclass(frozen=True, slots=True)
class Job:
    """The work of one request."""

    entries: Iterable[ScorableItem | InvalidItem]
    """In the caller's order. Those of an iterator are made in steps, between which other requests are served."""
    recipe: Recipe
    gold: bool = False
    """Whether gold scores are requested beside the rewards."""
    all_golds: bool = False
    """Whether those are of all gold models, or of the primary one only."""
    explain: bool = False
    """Whether results have an attribution."""
    on_item_error: OnItemError = "fail"
    path: Callable[[int, str], str] = _item_path
    """Path of a field of item i in the caller's protocol, for errors."""
    run: str | None = None
    """Training run that the rewards belong to."""
    step: int | None = None
    """Optimizer step of that run."""
    echo: Mapping[str, Any] | None = None
    """Fields of the request that the reply of its protocol repeats."""

    @property
    def wants_gold(self) -> bool:
        """Whether the gold model has to score: requested, or part of the reward."""
        return self.gold or self.recipe.needs_gold


def check_count(n: int, max_items: int, name: str = "samples") -> None:
    """Raise TooLargeError if a request has more than `max_items` samples."""
    if n > max_items:
        raise TooLargeError(f"{n} {name}, at most {max_items} fit one request")


class ItemLimits:
    """Collects what is over a limit in the items of one request, which are checked one after the other."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._errors: list[FieldError] = []

    def texts_fit(self, item: int, texts: Iterable[tuple[str, str]]) -> bool:
        """Whether the (field, text) pairs of an item are short enough, one by one and together."""
        of_all, total, fit = self.settings.max_item_chars, 0, True
        for field, text in texts:
            fit &= self.fits(item, field, len(text), self.settings.max_text_chars, "characters")
            total += len(text)
            if fit and total > of_all:
                return self._refuse(
                    item, field, f"brings the item to {total} characters, at most {of_all} are allowed"
                )
        return fit

    def references_fit(self, item: int, field: str, reference: str | list[str | None] | None) -> bool:
        """Whether an item has at most `max_references`; their texts are checked by `texts_fit`."""
        n = len(reference) if isinstance(reference, list) else 0
        return self.fits(item, field, n, self.settings.max_references, "references")

    def fits(self, item: int | None, field: str, n: int, most: int, unit: str) -> bool:
        """Whether `n` is at most `most`; otherwise `field` is reported. `item` is None for one of the request."""
        return n <= most or self._refuse(item, field, f"has {n} {unit}, at most {most} are allowed")

    def check(self) -> None:
        """Raise TooLargeError if something was over a limit. `fits` does so too, after a hundred errors."""
        if self._errors:
            raise TooLargeError(f"{len(self._errors)} field(s) are too long", self._errors)

    def _refuse(self, item: int | None, field: str, message: str) -> bool:
        self._errors.append(FieldError(item=item, field=field, message=message))
        if len(self._errors) >= MAX_ERRORS:
            self.check()
        return False


def prompt_texts(field: str, prompt: str | list[ChatMessage]) -> list[tuple[str, str]]:
    """(field, text) of a prompt, or of each of its messages."""
    if isinstance(prompt, str):
        return [(field, prompt)]
    return [(f"{field}.{turn}.content", message.content) for turn, message in enumerate(prompt)]


def reference_texts(field: str, reference: str | list[str | None] | None) -> list[tuple[str, str]]:
    """(field, text) of each reference of an item, whose field is `field`."""
    if isinstance(reference, list):
        return [(f"{field}.{index}", text or "") for index, text in enumerate(reference)]
    return [(field, reference or "")]


def default_query_type(
    settings: Settings, given: QueryType | None, otherwise: QueryType | None = None
) -> QueryTypeDefault:
    """The default of a request: `given` by it or its recipe, or the classifier, or that of its protocol."""
    return given or ("classifier" if settings.query_type_source == "classifier" else otherwise)


def scorable_item(
    item: Item, query_type_default: QueryTypeDefault, flags: Sequence[str] = ()
) -> ScorableItem | InvalidItem:
    """Determine the query type of `item`. Whether it has the reference that this needs is checked later.

    The item's own query type has priority. Without one, an item without a reference is open-ended, and an item
    with a reference gets `query_type_default`, or the classifier's guess: a reference does not imply a query
    type, because every row of the published data has one and half of them are open-ended. A reference that shows
    nothing counts as missing, because data sets use "" for it, and so does an empty list.
    """
    references = [(i, text) for i, text in usable_references(item.reference) if not is_blank(text)]
    reference = references[0][1] if references else None
    messages = _messages(item)
    query_type, source = _query_type(item, messages, reference, query_type_default)
    if query_type is None:
        message = "is needed when there is a reference: open_ended or closed_ended (or set query_type_default)"
        return InvalidItem("query_type", message, item.id)
    if is_blank(prompt_text(messages)):
        return InvalidItem("prompt", "has no user text", item.id)
    return ScorableItem(
        messages=messages,
        response=item.response,
        reference=reference,
        query_type=query_type,
        query_type_source=source,
        id=item.id,
        flags=(*flags, BY_CLASSIFIER) if source == "classifier" else tuple(flags),
        alternatives=tuple(references) if len(references) > 1 else (),
    )


def with_needed_reference(entry: ScorableItem | InvalidItem) -> ScorableItem | InvalidItem:
    """`entry`, or its error if it is closed-ended and has no reference."""
    if isinstance(entry, ScorableItem) and entry.query_type is QueryType.CLOSED_ENDED and entry.reference is None:
        return InvalidItem("reference", "is needed for a closed_ended item", entry.id)
    return entry


def reject_invalid_items(job: Job, entries: Sequence[object]) -> None:
    """Raise InvalidRequestError for the InvalidItems among `entries`, unless they are to be reported."""
    bad = [(i, entry) for i, entry in enumerate(entries) if isinstance(entry, InvalidItem)]
    if bad and job.on_item_error == "fail":
        errors = [
            FieldError(item=i, id=e.id, field=job.path(i, e.field), message=e.message) for i, e in bad[:MAX_ERRORS]
        ]
        raise InvalidRequestError(f"{len(bad)} of {len(entries)} items cannot be scored", errors)


def reject_unavailable(outcomes: Sequence[object]) -> None:
    """Raise the first UnavailableError of a model's outcomes: the same request may succeed later, as a whole."""
    for outcome in outcomes:
        if isinstance(outcome, UnavailableError):
            raise outcome


def _query_type(
    item: Item, messages: Sequence[ChatMessage], reference: str | None, default: QueryTypeDefault
) -> tuple[QueryType | None, QueryTypeSource]:
    if item.query_type is not None:
        return item.query_type, "given"
    if reference is None:
        return QueryType.OPEN_ENDED, "default"
    if default == "classifier":
        last = next((message.content for message in reversed(messages) if message.role == "user"), "")
        guess = embedded_classifier().guess(last)
        return (None if guess is None else guess.query_type), "classifier"
    return default, "default"


def _messages(item: Item) -> tuple[ChatMessage, ...]:
    if isinstance(item.prompt, str):
        return (ChatMessage(role="user", content=item.prompt),)
    return tuple(item.prompt)
