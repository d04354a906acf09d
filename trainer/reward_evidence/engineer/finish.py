"""From fitted weights to a recipe's terms: powers on a grid, ends at readable numbers, judged on the product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reward_evidence.engineer.pairs import Pairs
from reward_evidence.engineer.product import LogTable, likelihood
from reward_evidence.engineer.shapes import Shape, Term, moved
from reward_evidence.engineer.table import FloatArray

POWERS = (0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_SCALES = np.geomspace(0.05, 20.0, 25)
_EQUAL = 1e-3
"""Relative difference of losses up to which the more readable recipe is chosen."""
_BETTER = 2e-4
"""Relative gain that a change of a term has to bring."""
_IDLE = 1e-3
"""Relative loss up to which a recipe with one term less is chosen."""
_PASSES = 3
_MOVES = 6
_NEIGHBOURS = 2

Terms = tuple[Term, ...]


def finish(
    shapes: Sequence[Shape], powers: FloatArray, logs: LogTable, pairs: Pairs, options: Sequence[Shape] = ()
) -> Terms:
    """The terms of a recipe with `shapes` and about these powers, up to a common factor that ranks do not show.

    Args:
        shapes: one for each feature.
        powers: fitted, (m,), at least 0; a shape with 0 is left out.
        logs: of the rows that were fitted on.
        pairs: of these rows.
        options: shapes that may replace one of the same feature; with none, shapes are kept as they are.
    """
    judge = _Judge(logs, pairs)
    kept = [(shape, float(power)) for shape, power in zip(shapes, powers, strict=True) if power > 0]
    if not kept:
        return ()
    start = _rounded(kept, judge)
    starts = dict.fromkeys([start, _without_gates(start, options, judge)])
    return _without_idle(judge.best([_improved(one, options, judge) for one in starts]), options, judge)


class _Judge:
    """Losses of recipes, each computed once."""

    def __init__(self, logs: LogTable, pairs: Pairs) -> None:
        self.logs = logs
        self._pairs = pairs
        self._known: dict[Terms, float] = {}

    def loss(self, terms: Terms) -> float:
        if terms not in self._known:
            total = self.logs.sum([(term.shape, term.power) for term in terms])
            self._known[terms] = likelihood(total, self._pairs).loss
        return self._known[terms]

    def best(self, options: Sequence[Terms]) -> Terms:
        """The first option, unless another is clearly better."""
        found = min(options, key=self.loss)
        return found if self.loss(found) < self.loss(options[0]) * (1 - _BETTER) else options[0]


def _rounded(kept: Sequence[tuple[Shape, float]], judge: _Judge) -> Terms:
    """Powers on the grid: of the common factors that cost nothing, that with powers around 1."""
    largest = max(power for _, power in kept)
    options = {
        tuple(Term(shape, _nearest(scale * power / largest)) for shape, power in kept)
        for scale in (*POWERS, *_SCALES)
    }
    ordered = sorted(options, key=lambda terms: (_distance_from_1(terms), str(terms)))
    lowest = min(map(judge.loss, ordered))
    return next(terms for terms in ordered if judge.loss(terms) <= lowest * (1 + _EQUAL) + 1e-9)


def _nearest(power: float) -> float:
    return min(POWERS, key=lambda one: abs(np.log(one / max(power, 1e-9))))


def _distance_from_1(terms: Terms) -> float:
    return float(sum(abs(np.log(term.power)) for term in terms))


def _without_gates(terms: Terms, options: Sequence[Shape], judge: _Judge) -> Terms:
    """Another start: a gate that is 0 for too many rows holds up the other terms."""
    for i, term in enumerate(terms):
        others = [s for s in options if s.feature == term.shape.feature and s.kind != "gate"]
        if term.shape.kind == "gate" and others:
            terms = judge.best(
                [_with_term(terms, i, Term(shape, power)) for shape in others for power in _around(term.power)]
            )
    return terms


def _improved(terms: Terms, options: Sequence[Shape], judge: _Judge) -> Terms:
    """`terms` with shapes and powers chosen again, one term at a time."""
    for _ in range(_PASSES if options else 0):
        before = terms
        centred = _rounded([(term.shape, term.power) for term in terms], judge)
        if judge.loss(centred) <= judge.loss(terms) * (1 + _EQUAL):
            terms = centred  # away from the ends of the grid
        for i in range(len(terms)):
            terms = judge.best([terms, *_reshaped(terms, i, options, judge)])
        if terms == before:
            break
    return terms


def _reshaped(terms: Terms, i: int, options: Sequence[Shape], judge: _Judge) -> Iterator[Terms]:
    """Terms in place of that at `i`, one for each kind of shape and power: the best of `options`, then moved.

    An end and the power make up for each other, so that moving one at a time would stop at the first that fits.
    """
    term = terms[i]
    x = judge.logs.table.features[term.shape.feature]
    known = [shape for shape in (term.shape, *options) if shape.feature == term.shape.feature]
    for kind in sorted({shape.kind for shape in known}):
        for power in _around(term.power):
            found = judge.best([_with_term(terms, i, Term(s, power)) for s in known if s.kind == kind])
            for _ in range(_MOVES):
                near = [_with_term(terms, i, Term(shape, power)) for shape in moved(found[i].shape, x)]
                better = judge.best([found, *near])
                if better == found:
                    break
                found = better
            yield found


def _with_term(terms: Terms, i: int, term: Term) -> Terms:
    return (*terms[:i], term, *terms[i + 1 :])


def _around(power: float) -> Sequence[float]:
    """The power and its neighbours on the grid."""
    place = POWERS.index(power)
    return POWERS[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS + 1]


def _without_idle(terms: Terms, options: Sequence[Shape], judge: _Judge) -> Terms:
    """`terms` without those that add nothing on the rows that were fitted on, once the others have adapted."""
    while len(terms) > 1:
        rests = [(*terms[:i], *terms[i + 1 :]) for i in range(len(terms))]
        rest = _improved(min(rests, key=judge.loss), options, judge)
        if judge.loss(rest) > judge.loss(terms) * (1 + _IDLE):
            break
        terms = rest
    return terms
