"""The report of a probe: figures by kind, the requirement, examples. Its JSON form has a schema version.

pairs ──▶ build() ──▶ Report ──▶ table.py (terminal), `model_dump_json` (JSON), page.py (HTML)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from reward_client.probe.kinds import Kind
from reward_client.probe.run import Pair
from reward_client.probe.scorers import Scored, Subject

SCHEMA_VERSION = 1
MAX_EXAMPLES = 3
"""Examples of each kind: those in which the worse response earned most, compared with the good one."""
MAX_EXAMPLE_CHARS = 2_000
MAX_ERRORS = 100
NO_FEATURE = "no feature differs"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Answer(_Model):
    """One response with its reward."""

    response: str
    """Its beginning, MAX_EXAMPLE_CHARS at most."""
    characters: int
    """Of the whole response."""
    reward: float
    gold: float | None
    factors: dict[str, float]
    flags: list[str]


class Example(_Model):
    """A good and a worse response."""

    prompt: str
    reference: str | None
    query_type: str
    good: Answer
    worse: Answer
    to_blame: str | None
    """The feature that raised the worse response's reward most; null if the good one wins or none is known."""


class KindReport(_Model):
    """The figures of one kind of worse response."""

    name: str
    group: str
    summary: str
    pairs: int
    """Pairs with two rewards."""
    errors: int
    """Pairs without."""
    accuracy: float | None
    """Share of the pairs in which the good answer earns more; ties count half. Null without pairs."""
    ties: int
    good_reward: float | None
    """Mean."""
    worse_reward: float | None
    worse_share: float | None
    """Mean reward of the worse responses over that of the good ones; null if a reward is negative or all are 0."""
    gold_accuracy: float | None
    """The same share by the gold model, if it scored."""
    to_blame: dict[str, int]
    """Features by the number of pairs, among those that the worse response won or tied."""
    examples: list[Example]


class ErrorReport(_Model):
    """A pair without two rewards."""

    kind: str
    prompt: str
    message: str


class Requirement(_Model):
    """The share that `--require` sets, and the kinds below it."""

    accuracy: float
    mean_is_below: bool
    kinds_below: list[str]
    pairs_without_rewards: int
    met: bool


class Report(_Model):
    """A probe of one reward."""

    schema_version: int = SCHEMA_VERSION
    subject: dict[str, Any]
    """URL, protocol, recipe with hash, models, notices."""
    prompts: str
    """Source of the prompts."""
    n_prompts: int
    n_pairs: int
    n_errors: int
    accuracy: float | None
    """Mean over kinds."""
    gold_accuracy: float | None
    requirement: Requirement | None
    kinds: list[KindReport]
    errors: list[ErrorReport]
    """The first ones."""


def build(
    pairs: Sequence[Pair], subject: Subject, prompts: str, n_prompts: int, required: float | None = None
) -> Report:
    """The report of `pairs`."""
    by_kind: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_kind.setdefault(pair.kind.name, []).append(pair)
    kinds = [_kind_report(found[0].kind, found) for found in by_kind.values()]
    failed = [pair for pair in pairs if pair.error is not None]
    accuracy = _mean([kind.accuracy for kind in kinds])
    return Report(
        subject=asdict(subject),
        prompts=prompts,
        n_prompts=n_prompts,
        n_pairs=len(pairs) - len(failed),
        n_errors=len(failed),
        accuracy=accuracy,
        gold_accuracy=_mean([kind.gold_accuracy for kind in kinds]),
        requirement=None if required is None else _requirement(required, accuracy, kinds, len(failed)),
        kinds=kinds,
        errors=[
            ErrorReport(kind=pair.kind.name, prompt=_short(pair.case.prompt, 200), message=pair.error or "")
            for pair in failed[:MAX_ERRORS]
        ],
    )


def _requirement(
    required: float, accuracy: float | None, kinds: Sequence[KindReport], n_errors: int
) -> Requirement:
    below = [kind.name for kind in kinds if kind.accuracy is not None and kind.accuracy < required]
    mean_is_below = accuracy is None or accuracy < required
    return Requirement(
        accuracy=required,
        mean_is_below=mean_is_below,
        kinds_below=below,
        pairs_without_rewards=n_errors,
        met=not (mean_is_below or below or n_errors),
    )


def _kind_report(kind: Kind, pairs: Sequence[Pair]) -> KindReport:
    scored = [(pair, pair.good, pair.worse) for pair in pairs if pair.error is None]
    both = [
        (pair, good, worse)
        for pair, good, worse in scored
        if isinstance(good, Scored) and isinstance(worse, Scored)
    ]
    wins = [win(good.reward, worse.reward) for _, good, worse in both]
    golds = [
        win(good.gold, worse.gold) for _, good, worse in both if good.gold is not None and worse.gold is not None
    ]
    lost = [(good, worse) for (_, good, worse), won in zip(both, wins, strict=True) if won < 1]
    goods, worses = [good.reward for _, good, _ in both], [worse.reward for _, _, worse in both]
    blamed = Counter(filter(None, (to_blame(good.factors, worse.factors) for good, worse in lost)))
    both.sort(key=lambda one: one[1].reward - one[2].reward)
    return KindReport(
        name=kind.name,
        group=kind.group,
        summary=kind.summary,
        pairs=len(both),
        errors=len(pairs) - len(both),
        accuracy=_mean(wins),
        ties=wins.count(0.5),
        good_reward=_mean(goods),
        worse_reward=_mean(worses),
        worse_share=_share(worses, goods),
        gold_accuracy=_mean(golds),
        to_blame=dict(blamed.most_common()),
        examples=[_example(*one) for one in both[:MAX_EXAMPLES]],
    )


def _example(pair: Pair, good: Scored, worse: Scored) -> Example:
    lost = win(good.reward, worse.reward) < 1
    return Example(
        prompt=_short(pair.case.prompt),
        reference=None if pair.case.reference is None else _short(pair.case.reference),
        query_type=pair.case.query_type.value,
        good=_answer(pair.case.response, good),
        worse=_answer(pair.text, worse),
        to_blame=to_blame(good.factors, worse.factors) if lost else None,
    )


def _answer(text: str, scored: Scored) -> Answer:
    return Answer(
        response=text[:MAX_EXAMPLE_CHARS],
        characters=len(text),
        reward=scored.reward,
        gold=scored.gold,
        factors=dict(scored.factors),
        flags=list(scored.flags),
    )


def to_blame(good: Mapping[str, float], worse: Mapping[str, float]) -> str | None:
    """The factor that grew most, by ratio, from the good to the worse response; None when factors are unknown."""
    growth = {name: _growth(good[name], worse[name]) for name in good if name in worse}
    if not growth:
        return None
    name = max(growth, key=growth.__getitem__)
    return name if growth[name] > 0 else NO_FEATURE


def _growth(good: float, worse: float) -> float:
    """The logarithm of the ratio: the logarithm of a product's change is the sum of those of its factors."""
    if good > 0 and worse > 0:
        return math.log(worse / good)
    return 0.0 if worse == good else math.copysign(math.inf, worse - good)


def win(good: float, worse: float) -> float:
    """1 when the good answer earns more, 0.5 for a tie within rounding, 0 otherwise."""
    if math.isclose(good, worse, rel_tol=1e-6, abs_tol=1e-9):
        return 0.5
    return 1.0 if good > worse else 0.0


def _share(worses: Sequence[float], goods: Sequence[float]) -> float | None:
    if not goods or min(*worses, *goods) < 0 or sum(goods) == 0:
        return None
    return sum(worses) / sum(goods)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _short(text: str, most: int = MAX_EXAMPLE_CHARS) -> str:
    return text if len(text) <= most else f"{text[:most]} … ({len(text)} characters)"
