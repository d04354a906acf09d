"""Forward selection: models of one factor, two, …, each with the shapes chosen again after a factor was added."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reward_evidence.engineer.design import Design, Fit, fit, gains
from reward_evidence.engineer.table import FloatArray

_TRIED = 6
"""Candidates that are fitted, of those with the largest gains."""
_LEAST_GAIN = 1e-5
"""Nats a pair that a further factor has to gain on the rows that it was fitted on."""


def path(of: Design, most: int) -> list[Fit]:
    """Models of 1, 2, … up to `most` factors, each of another feature; shorter when nothing more is gained."""
    model = Fit((), np.empty(0), float(np.log(2)))
    models: list[Fit] = []
    while len(models) < most:
        used = {of.features[c] for c in model.columns}
        free = [c for c, feature in enumerate(of.features) if feature not in used]
        better = _best(of, model.columns, model.margin(of), free)
        if better is None or better.loss > model.loss - _LEAST_GAIN:
            break
        model = _reshaped(of, better)
        models.append(model)
    return models


def _best(of: Design, others: Sequence[int], margin: FloatArray, among: Sequence[int]) -> Fit | None:
    """The best model of `others` and one of the candidates `among`."""
    if not among:
        return None
    gain = gains(of, margin, among)
    first = [among[i] for i in np.argsort(-gain, kind="stable")[:_TRIED] if gain[i] > 0]
    fits = [fit(of, [*others, c]) for c in first]
    return min(fits, key=lambda one: one.loss, default=None)


def _reshaped(of: Design, model: Fit) -> Fit:
    """`model` with another shape of a feature, where that is better; each factor is tried once."""
    for column in model.columns[:-1]:
        others = [c for c in model.columns if c != column]
        rest = fit(of, others)
        found = _best(of, others, rest.margin(of), of.of_feature(of.features[column]))
        if found is not None and found.loss < model.loss - _LEAST_GAIN:
            model = found
    return model
