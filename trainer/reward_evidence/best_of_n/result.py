"""`best_of_n.json`: the figures of a run of best-of-n, how they were measured, and what they warn of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from reward_evidence.best_of_n.examples import Example, choose_examples
from reward_evidence.best_of_n.figures import Curve, Figures, JudgedSamples, summarise
from reward_evidence.report.formatting import interval, percent, plain, signed
from reward_runs.files import replace_text

FILE_NAME = "best_of_n.json"

METHOD = {
    "pick": (
        "The response with the highest reward among n of the N samples of a prompt, in expectation over all "
        "subsets; equal rewards share their probability."
    ),
    "KL": "log n − (n − 1) / n nats from the policy: an upper bound, exact without equal rewards.",
    "intervals": "95 %, percentile bootstrap over prompts; changes and differences are paired by prompt.",
    "comparisons": (
        "At the largest n: each pair of recipes, and each recipe with `longest` and `random`. p-values are those "
        "of random sign flips over prompts, adjusted by Holm's method for all comparisons; below .05 one is the "
        "better."
    ),
    "over-optimisation": (
        "Gold at the largest n minus gold at each smaller n: a fall counts with an adjusted p-value (Holm, for "
        "all smaller n of the recipe) below .05, where the interval of the recipe's own reward lies above zero."
    ),
    "share of the possible": "Gold change from n = 1 as a share of that of picking by the gold model itself.",
    "words": "Runs of word characters and runs of other visible characters, as the paper counts them.",
}


class Provenance(BaseModel):
    """How the figures were measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    created_at: str
    """ISO 8601, UTC."""
    settings: dict[str, Any]
    """Source of the samples, how they were drawn, prompts, overrides of recipes."""
    service: dict[str, Any]
    """Recipes with their hashes, models with their revisions, version."""
    versions: dict[str, str]
    notices: list[str]
    """Notices of the service, verbatim."""


class BestOfN(Provenance):
    """The content of `best_of_n.json`."""

    schema_version: Literal[1] = 1
    figures: Figures
    warnings: list[str]
    """Over-optimisation, and what is unusual about the samples."""
    examples: list[Example]
    method: dict[str, str]

    @property
    def gold(self) -> str:
        """Id of the gold model."""
        return str(self.service["gold"]["id"])


def judge(judged: JudgedSamples, provenance: Provenance) -> BestOfN:
    """Compute all figures."""
    figures = summarise(judged)
    falls = [sentence for curve in figures.curves if (sentence := _fall(curve))]
    return BestOfN(
        figures=figures,
        warnings=[*falls, *_unusual(judged)],
        examples=choose_examples(judged),
        method=METHOD,
        **dict(provenance),
    )


def write_result(folder: Path, result: BestOfN) -> Path:
    """Replace `best_of_n.json` in `folder` atomically; return its path."""
    path = folder / FILE_NAME
    replace_text(path, result.model_dump_json(indent=1) + "\n")
    return path


def _fall(curve: Curve) -> str | None:
    if not curve.falls:
        return None
    worst = min(curve.falls, key=lambda fall: fall.gold_change.mean)
    change = worst.gold_change
    return (
        f"{curve.name} is over-optimised: from n = {worst.since_n} to n = {curve.points[-1].n} its own reward "
        f"rises and gold changes by {signed(change.mean, 3)} "
        f"({interval(change.low, change.high, with_sign=True)}, adjusted p = {plain(worst.p_adjusted, 4)})."
    )


def _unusual(judged: JudgedSamples) -> list[str]:
    """What a reader of the figures must know about the samples."""
    rows = judged.samples
    flat = [sample for row in rows for sample in row]
    found = []
    if n_empty := sum(not sample.response.strip() for sample in flat):
        found.append(f"{n_empty} of {len(flat)} samples have no text.")
    known = [sample.truncated for sample in flat if sample.truncated is not None]
    if known and (n_truncated := sum(known)) / len(known) >= _MANY:
        found.append(f"{percent(n_truncated / len(known))} of the samples were cut at the token limit.")
    n_different = _mean([len({sample.response for sample in row}) for row in rows])
    if n_different < (1 - _MANY) * len(rows[0]):
        found.append(
            f"Of the {len(rows[0])} samples of a prompt, {plain(n_different, 1)} are different on average: the "
            "divergence from the policy is smaller than stated."
        )
    return found


_MANY = 0.1
"""Share of the samples above which a warning is shown."""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
