"""One probe: make the worse responses, score them and the good ones in batches, pair the outcomes.

cases ──▶ responses() ──▶ [Response] ──▶ score_all() ──▶ {item index: Outcome} ──▶ pairs() ──▶ [Pair]

A request that the service rejects is sent again in halves, so that one unacceptable response costs one outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from reward_client.errors import RewardRejectedError
from reward_client.probe.case import Case
from reward_client.probe.kinds import Kind, worse_responses
from reward_client.probe.scorers import Failed, Outcome, Scored, Scorer
from reward_client.score_file import Progress
from reward_client.wire import Item

_ABOUT_ITEMS = frozenset({400, 413, 422})
"""Statuses of a rejection that may concern single items."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A good and a worse response to one prompt, scored."""

    case: Case
    kind: Kind
    text: str
    """The worse response."""
    good: Outcome
    worse: Outcome

    @property
    def error(self) -> str | None:
        """Why the pair cannot be compared."""
        if isinstance(self.good, Failed):
            return f"the good answer has no reward: {self.good.message}"
        return self.worse.message if isinstance(self.worse, Failed) else None


@dataclass(frozen=True, slots=True)
class _Worse:
    case: int
    kind: Kind
    text: str


def probe(
    cases: Sequence[Case],
    scorer: Scorer,
    *,
    batch: int = 64,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> list[Pair]:
    """The scored pairs of all cases and kinds. Raises RewardError when the service cannot score at all."""
    worse = [_Worse(i, kind, text) for i, case in enumerate(cases) for kind, text in worse_responses(case)]
    items = [case.item for case in cases]
    items += [items[one.case].model_copy(update={"response": one.text}) for one in worse]
    outcomes = list(_score_all(scorer, items, batch, on_progress))
    good, others = outcomes[: len(cases)], outcomes[len(cases) :]
    return [
        Pair(cases[one.case], one.kind, one.text, good[one.case], outcome)
        for one, outcome in zip(worse, others, strict=True)
    ]


def _score_all(
    scorer: Scorer, items: Sequence[Item], batch: int, on_progress: Callable[[Progress], None]
) -> Iterator[Outcome]:
    started = time.monotonic()
    accepted = False
    for start in range(0, len(items), batch):
        chunk = items[start : start + batch]
        try:
            outcomes = scorer.score(chunk)
        except RewardRejectedError as exc:
            if exc.problem.status not in _ABOUT_ITEMS:
                raise
            outcomes = list(_in_halves(scorer, chunk, exc))
            if not accepted and not any(isinstance(outcome, Scored) for outcome in outcomes):
                raise  # the request itself is unacceptable, not its items
        accepted = True
        yield from outcomes
        done = start + len(chunk)
        on_progress(Progress(done, len(items), done / max(time.monotonic() - started, 1e-9)))


def _in_halves(scorer: Scorer, items: Sequence[Item], rejection: RewardRejectedError) -> Iterator[Outcome]:
    """The outcomes of `items`, which were rejected together: those rejected alone fail."""
    if len(items) == 1:
        yield Failed(str(rejection))
        return
    middle = len(items) // 2
    for part in (items[:middle], items[middle:]):
        try:
            yield from scorer.score(part)
        except RewardRejectedError as exc:
            yield from _in_halves(scorer, part, exc)
