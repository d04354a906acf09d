"""MODEL_CARD.md of a fitted gold model: sources, attribution, measured accuracy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from reward_trainer.gold.fit import FitSettings
from reward_trainer.gold.folder import NOTICES
from reward_trainer.gold.model import Base
from reward_trainer.gold.preferences import Pair
from reward_trainer.gold.quality import Estimate, Row
from reward_trainer.gold.text import PairLengths


@dataclass(frozen=True)
class CardInputs:
    """Data, settings and results of one fit."""

    base: Base
    settings: FitSettings
    lengths: PairLengths
    read: Sequence[Pair]
    """Training pairs that were not excluded."""
    used: Sequence[Pair]
    """Pairs that remained after balancing."""
    excluded: Sequence[str]
    rows: Sequence[Row]
    """Empty when there was no test file."""
    test_sources: Sequence[str]
    command: str
    made_on: date
    minutes: float
    """Duration of fitting, wall clock."""
    n_trained: int
    """Number of trained parameters."""


def model_card(inputs: CardInputs) -> str:
    """Return the card as Markdown."""
    here = files(__package__)
    known = json.loads((here / "sources.json").read_text(encoding="utf-8"))
    used, read = Counter(p.source for p in inputs.used), Counter(p.source for p in inputs.read)
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - Markdown
    environment.filters["estimate"] = _estimate
    template = environment.from_string((here / "card.md.j2").read_text(encoding="utf-8"))
    unknown = {"judged_by": "not recorded", "origin": "given on the command line", "licence": "not recorded"}
    return template.render(
        inputs=inputs,
        notices=NOTICES,
        sources=[(s, used[s], read[s], known.get(s, unknown)) for s in sorted(read)],
        test_only=[(s, known.get(s, unknown)) for s in sorted(set(inputs.test_sources) - set(read))],
    )


def _estimate(value: Estimate) -> str:
    """`.612 [.590, .633]`."""
    if value.interval is None:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{value.interval[0]:.3f}, {value.interval[1]:.3f}]"
