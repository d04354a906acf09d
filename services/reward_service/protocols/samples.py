"""Samples of trainers: an exchange and a label, as scorable items, with errors that name the protocol's fields.

    posted sample ─▶ texts within limits? ─▶ Sample(exchange, label) ─▶ entries: within limits? ─▶ Job.entries
                     no: None                or InvalidItem                      texts, messages, references

The first check bounds the work of reading a sample; the second one is the same for all protocols.

A label is what data sets have in one column: null, a reference, or an object with a reference and a query type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError

from reward_client.wire import (
    AnyQueryType,
    ChatMessage,
    Item,
    Reference,
    ScalarText,
    error_message,
    error_path,
)
from reward_service.protocols.base import Call, ScoringOptions, WireModel
from reward_service.protocols.chat_templates import CleanExchange, PromptError
from reward_service.protocols.url_options import json_or_text
from reward_service.scoring.job import (
    InvalidItem,
    ItemLimits,
    Job,
    QueryTypeDefault,
    ScorableItem,
    reference_texts,
    scorable_item,
)

Path = Callable[[int, str], str]
"""Path of a field of sample i in the posted body."""


class Label(WireModel):
    """The label column when it carries more than a reference."""

    model_config = ConfigDict(extra="forbid")

    reference: Reference | None = None
    query_type: AnyQueryType | None = None
    id: ScalarText | None = None


LabelT = TypeVar("LabelT", bound=Label)


@dataclass(frozen=True, slots=True)
class Sample:
    """One response to score, without template markers, and its label."""

    exchange: CleanExchange
    label: Label


def label_texts(name: str, label: Any) -> list[tuple[str, str]]:
    """(field, text) of a label that is text, whose length is checked before it is decoded."""
    return [(name, label)] if isinstance(label, str) else []


def read_label(value: Any) -> Label | InvalidItem:
    """The label that a protocol sends, as `read_label_as` reads it."""
    return read_label_as(Label, value)


def read_label_as(model: type[LabelT], value: Any) -> LabelT | InvalidItem:
    """Null and "" are empty labels; an object must have the fields of `model`; anything else is a reference.

    Text is an object only if it is the JSON of one: a list in text may be the reference itself, as in "[1, 2]".
    """
    if value is None or value == "":
        return model()
    decoded = json_or_text(value) if isinstance(value, str) else value
    try:
        if isinstance(decoded, dict):
            return model.model_validate(dict(islice(decoded.items(), 10)))  # one of so many is unknown
        return model(reference=value)
    except ValidationError as exc:
        error = exc.errors()[0]
        return InvalidItem(".".join(map(str, ("label", *error_path(error)))), error_message(error))


def content_texts(field: str, messages: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """(field, text) of each text in posted messages, also in lists of parts, whose lengths are checked before they
    are joined."""
    for index, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield f"{field}.{index}.content", content
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield f"{field}.{index}.content.{number}.text", part["text"]


def read_messages(messages: Iterable[Any]) -> tuple[ChatMessage, ...]:
    """Messages as chat clients send them, of which role and content are read. Raises PromptError."""
    read = []
    for index, one in enumerate(messages):
        given = one if isinstance(one, dict) else {}
        try:
            read.append(ChatMessage.model_validate({name: given.get(name) for name in ("role", "content")}))
        except ValidationError as exc:
            error = exc.errors()[0]
            message = f"message {index} has a wrong {error_path(error)[0]}: {error_message(error)}"
            raise PromptError(message) from exc
    return tuple(read)


def sample_path(prompt: str, response: str, label: str) -> Path:
    """Paths of fields, from those of the three posted ones: `{}` in them is the index of the sample."""

    def path(index: int, name: str) -> str:
        own, _, rest = name.partition(".")
        if own == "prompt":
            return prompt.format(index)
        if own == "response":
            return response.format(index)
        return f"{label.format(index)}.{rest if own == 'label' else name}".rstrip(".")

    return path


def entries(
    samples: Iterable[Sample | InvalidItem | None], default: QueryTypeDefault, limits: ItemLimits, path: Path
) -> Iterator[ScorableItem | InvalidItem]:
    """The samples that are within the limits. Raises TooLargeError at the end if there are others.

    Args:
        samples: the posted ones; None for one that `limits` has refused already.
        default: query type of a sample with a reference and no query type.
        limits: what the service allows.
        path: path of a field, for errors.
    """
    for i, sample in enumerate(samples):
        if isinstance(sample, InvalidItem):
            yield sample
        elif sample is not None and _fits(sample, i, limits, path):
            yield _entry(sample, default)
    limits.check()


def sample_job(
    samples: Iterable[Sample | InvalidItem | None],
    call: Call,
    options: ScoringOptions,
    limits: ItemLimits,
    path: Path,
) -> Job:
    """The work of `samples`, as `entries` reads them; a run is named in the path of the URL."""
    run = call.path.get("run")
    limits.fits(None, "run", len(run or ""), call.settings.max_id_chars, "characters")
    return Job(
        entries=entries(samples, options.query_type_default, limits, path),
        recipe=options.recipe,
        gold=options.gold,
        path=path,
        run=run,
    )


def _fits(sample: Sample, i: int, limits: ItemLimits, path: Path) -> bool:
    """Whether the sample is within the limits, in whatever form its texts were posted."""
    exchange, label, most = sample.exchange, sample.label, limits.settings
    fits_id = limits.fits(i, path(i, "id"), len(label.id or ""), most.max_id_chars, "characters")
    fits = limits.fits(i, path(i, "prompt"), len(exchange.messages), most.max_messages, "messages")
    name = path(i, "reference")
    if not fits or not limits.references_fit(i, name, label.reference):
        return False
    messages = enumerate(exchange.messages)
    prompt = [(path(i, f"prompt.{number}.content"), message.content) for number, message in messages]
    response = path(i, "response"), exchange.response
    return limits.texts_fit(i, [*prompt, response, *reference_texts(name, label.reference)]) and fits_id


def _entry(sample: Sample, default: QueryTypeDefault) -> ScorableItem | InvalidItem:
    exchange, label = sample.exchange, sample.label
    if not exchange.messages:
        return InvalidItem(field="prompt", message="holds no turn that can be read")
    fields = label.model_dump(include=set(Label.model_fields))
    item = Item(prompt=list(exchange.messages), response=exchange.response, **fields)
    return scorable_item(item, default, exchange.flags)
