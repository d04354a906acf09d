"""Scores of the gold model alone, of texts and conversations as they are: no recipe, no features.

    job.entries ──▶ prepare (tokens) ──▶ enqueue ──▶ gold model ──▶ reply: one logit an entry
                    steps                                           an error for the whole request, or all of them

The counterpart of `Scoring` for protocols of reward-model servers. Their replies have no place for the error of
one text, so a text without a score fails its request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from reward_client.wire import FieldError
from reward_service.batching import Steps, Submission, Unit
from reward_service.errors import MAX_ERRORS, InvalidRequestError, ModelError
from reward_service.models.protocols import Exchange, GoldModel, RawText, Tokens
from reward_service.scoring.job import GoldWorker, InvalidItem, reject_unavailable

_REPEATED_CHAR_BYTES = 4
"""Memory for the tokens of a character: a body is charged the same for each byte."""


@dataclass(frozen=True, slots=True)
class GoldReply:
    """Scores in the order of the entries."""

    scores: list[float]
    n_tokens: list[int]
    """Tokens that the model read of each entry."""
    flags: list[tuple[str, ...]]
    """Observations about each entry."""
    model: str
    revision: str
    notices: list[str]


@dataclass(frozen=True, slots=True)
class GoldJob:
    """The work of one request."""

    entries: Iterable[Exchange | RawText | InvalidItem]
    """In the caller's order. Those of an iterator are made in steps, between which other requests are served."""
    path: Callable[[int, str], str]
    """Path of entry i in the caller's protocol, for errors. The field is that of an InvalidItem, or `""`."""
    reply: Callable[[GoldReply], BaseModel]
    """Makes the protocol's reply. Called in a thread."""
    n_repeated_chars: int = 0
    """Characters of a text that several entries share, for each of the others: all have tokens for it."""


def required_gold(gold: GoldWorker | None) -> GoldWorker:
    """`gold`. Raises InvalidRequestError, with what to do, if the service has no gold model."""
    if gold is None:
        raise InvalidRequestError(
            "this route returns scores of the gold model, and this service has none; start it with --gold "
            "(GLASSBOX_GOLD): demo-gold, a folder, a Hugging Face id, or the URL of a server"
        )
    return gold


class GoldScoring:
    """One job being scored: `prepare`, then `reply` when the worker has computed the `units`."""

    def __init__(
        self,
        job: GoldJob,
        entries: Sequence[Exchange | RawText | InvalidItem],
        gold: GoldWorker,
        notices: Callable[[Iterable[GoldModel]], list[str]],
    ) -> None:
        self.job = job
        self.n_items = len(entries)
        self.workers: list[GoldWorker] = [gold]
        """Of the models that the job needs."""
        self.units: list[list[Unit[Tokens]]] = [[]]
        """What each of them has to compute, once the job is prepared."""
        self.n_extra_bytes = _REPEATED_CHAR_BYTES * job.n_repeated_chars
        """Memory that it needs beside what the body of its request was charged."""
        self._entries = entries
        self._gold = gold
        self._model: GoldModel | None = None
        self._notices = notices

    def prepare(self) -> Steps[None]:
        """Compute tokens. Raises NotReadyError, or InvalidRequestError that names the entries without any."""
        model = self._model = self._gold.loaded_model()
        (units,) = self.units
        errors: list[FieldError] = []
        for index, entry in enumerate(self._entries):
            if index:
                yield
            made = entry if isinstance(entry, InvalidItem) else _unit(entry, model, self._gold.label)
            if isinstance(made, Unit):
                units.append(made)
            elif len(errors) < MAX_ERRORS:
                path = self.job.path(index, made.field)
                errors.append(FieldError(item=index, field=path, message=made.message))
        if errors:
            n_bad = self.n_items - len(units)
            raise InvalidRequestError(f"{n_bad} of {self.n_items} texts cannot be scored", errors)

    def reply(self, done: Sequence[Submission[float]]) -> Steps[GoldReply]:
        """The scores, which `done` has. Raises ModelError if one is missing or not finite, GoldUnavailableError if
        a server is."""
        assert self._model is not None  # noqa: S101 - for mypy
        (outcomes,), (units,) = (one.outcomes for one in done), self.units
        reject_unavailable(outcomes)
        scores: list[float] = []
        errors: list[FieldError] = []
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, float | int) and math.isfinite(outcome):
                scores.append(float(outcome))
                continue
            problem = (
                str(outcome) if isinstance(outcome, Exception) else f"the {self._gold.label} answered {outcome}"
            )
            errors.append(FieldError(item=index, field=self.job.path(index, ""), message=problem))
        yield
        if errors:
            first = f"{errors[0].field}: {errors[0].message}"
            raise ModelError(f"{len(errors)} of {self.n_items} texts have no score; the first: {first}", errors)
        return GoldReply(
            scores=scores,
            n_tokens=[unit.n_tokens for unit in units],
            flags=[unit.value.flags for unit in units],
            model=self._model.id,
            revision=self._model.revision,
            notices=self._notices([self._model]),
        )


def _unit(entry: Exchange | RawText, model: GoldModel, label: str) -> Unit[Tokens] | InvalidItem:
    try:
        tokens = model.tokenize_text(entry) if isinstance(entry, RawText) else model.tokenize(entry)
    except ValueError as exc:
        return InvalidItem("", f"the {label} cannot read this text: {exc}")
    return Unit(entry, tokens, len(tokens.input_ids))
