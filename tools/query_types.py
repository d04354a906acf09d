"""Fit and measure the classifier of query types (`reward_client.query_types`).

    python -m tools.query_types                    cross-validate, fit, and write model.json
    python -m tools.query_types --measure FILE     accuracy on labelled rows that it was not fitted on

It is fitted on this project's prompts only: the embedded training and held-out prompts, the open and closed ones
of the probe's battery, and tools/query_type_prompts. The same files give the same weights. Strength of the
regularisation is chosen by five-fold cross-validation on these prompts.

FILE has the fields `prompt` and `query_type`, or `input` and `qtype` as the published RER data sets.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from reward_client.intervals import Estimate, share_over_prompts
from reward_client.query_types.classifier import Classifier, Guess, embedded_classifier
from reward_client.query_types.cues import features
from reward_client.rows import read_rows
from reward_client.wire import QueryType, usable_references

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "client/reward_client/query_types/model.json"
SOURCES = (
    ROOT / "trainer/reward_runs/embedded_prompts/train.jsonl",
    ROOT / "trainer/reward_runs/embedded_prompts/heldout.jsonl",
    ROOT / "client/reward_client/probe/battery/prompts.jsonl",
    ROOT / "tools/query_type_prompts/prompts.jsonl",
)
_ONLY_LENGTH_AND_FORM = ("list", "table", "code")
"""Categories of the battery that are open-ended there because no reference verifies them."""
STRENGTHS = (0.3, 1.0, 3.0)
"""Candidates of the L2 penalty, in rows: the penalty is strength / 2 · Σ weight²."""
_FOLDS = 5
_EPOCHS = 60
_MIN_ROWS = 2
"""Rows that a feature must occur in."""
_SMALLEST = 0.005
"""Smaller weights are left out of the file."""

Labelled = tuple[str, QueryType]
_SPELLINGS = {"OPENENDED": QueryType.OPEN_ENDED, "CONSTRAINED": QueryType.CLOSED_ENDED}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    if arguments.measure is not None:
        print("\n".join(measured(arguments.measure)))
        return
    rows = own_prompts()
    print(f"{len(rows)} prompts, {Counter(label.value for _, label in rows)}")
    found = {strength: _cross_validated(rows, strength) for strength in STRENGTHS}
    for strength, (accuracy, loss) in found.items():
        print(f"strength {strength}: cross-validated accuracy {_figure(accuracy)}, log loss {loss:.3f}")
    best = min(found, key=lambda strength: found[strength][1])
    write(fit(rows, best))
    print(f"strength {best}; wrote {MODEL.relative_to(ROOT)}, {MODEL.stat().st_size} bytes")


def own_prompts() -> list[Labelled]:
    """This project's prompts with their query types, each once."""
    rows: dict[str, QueryType] = {}
    for path in SOURCES:
        for fields in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if fields.get("category") not in _ONLY_LENGTH_AND_FORM:
                rows.setdefault(fields["prompt"], QueryType(fields["query_type"]))
    return list(rows.items())


# Fitting --------------------------------------------------------------------------------------------------------


def fit(rows: Sequence[Labelled], strength: float) -> Classifier:
    """Logistic regression by stochastic gradient descent with decreasing steps, in a fixed order of the rows."""
    seen = [(sorted(features(prompt)), float(label is QueryType.CLOSED_ENDED)) for prompt, label in rows]
    count = Counter(name for names, _ in seen for name in names)
    data = [([name for name in names if count[name] >= _MIN_ROWS], label) for names, label in seen]
    weights, bias, random = dict.fromkeys(sorted(count), 0.0), 0.0, Random(0)
    for epoch in range(_EPOCHS):
        step = 0.1 / (1 + epoch / 4)
        for names, label in random.sample(data, len(data)):
            error = label - _probability(bias, weights, names)
            bias += step * error
            for name in names:
                weights[name] += step * (error - strength / count[name] * weights[name])
    kept = {name: round(weight, 4) for name, weight in weights.items() if abs(weight) >= _SMALLEST}
    return Classifier(round(bias, 4), kept)


def _probability(bias: float, weights: Mapping[str, float], names: Sequence[str]) -> float:
    return 1 / (1 + math.exp(-(bias + sum(weights[name] for name in names))))


def _cross_validated(rows: Sequence[Labelled], strength: float) -> tuple[Estimate, float]:
    """Accuracy and mean log loss over rows that the classifier of their fold was not fitted on."""
    shuffled = Random(1).sample(rows, len(rows))
    right, loss = 0, 0.0
    for fold in range(_FOLDS):
        classifier = fit([row for i, row in enumerate(shuffled) if i % _FOLDS != fold], strength)
        for prompt, label in shuffled[fold::_FOLDS]:
            guess = _guess(classifier, prompt)
            right += guess.query_type is label
            loss -= math.log(guess.confidence if guess.query_type is label else 1 - guess.confidence)
    return share_over_prompts(right, len(rows)), loss / len(rows)


def _guess(classifier: Classifier, prompt: str) -> Guess:
    guess = classifier.guess(prompt)
    if guess is None:
        raise ValueError(f"{prompt[:40]!r} has no text whose query type could be determined")
    return guess


def write(classifier: Classifier) -> None:
    """Write model.json."""
    content = {"schema_version": 1, "bias": classifier.bias, "weights": dict(sorted(classifier.weights.items()))}
    MODEL.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


# Measuring ------------------------------------------------------------------------------------------------------


def measured(path: Path) -> list[str]:
    """The lines of a report on labelled rows: accuracy, confusion, accuracy by confidence, naive baselines."""
    rows = read_rows(path, lambda fields, _: _labelled(fields))
    classifier = embedded_classifier()
    guesses = [(_guess(classifier, prompt), label, has_reference) for prompt, label, has_reference in rows]
    n = len(guesses)
    confusion = Counter((label.value, guess.query_type.value) for guess, label, _ in guesses)
    lines = [f"{n} rows of {path.name}, {dict(Counter(label.value for _, label, _ in guesses))}"]
    lines.append(f"accuracy            {_figure(_share([g.query_type is label for g, label, _ in guesses]))}")
    for name, right in {
        "all open_ended": [label is QueryType.OPEN_ENDED for _, label, _ in guesses],
        "all closed_ended": [label is QueryType.CLOSED_ENDED for _, label, _ in guesses],
        "has a reference": [(label is QueryType.CLOSED_ENDED) == has for _, label, has in guesses],
    }.items():
        lines.append(f"  {name:<18}{_figure(_share(right))}")
    lines.append("label → guess")
    for label in QueryType:
        row = "  ".join(f"{guess.value} {confusion[label.value, guess.value]:>5}" for guess in QueryType)
        lines.append(f"  {label.value:<14}{row}")
    for least in (0.6, 0.7, 0.8, 0.9):
        kept = [guess.query_type is label for guess, label, _ in guesses if guess.confidence >= least]
        lines.append(f"confidence ≥ {least}: {len(kept) / n:.0%} of the rows, accuracy {_figure(_share(kept))}")
    return lines


def _labelled(fields: Mapping[str, object]) -> tuple[str, QueryType, bool]:
    prompt, label = fields.get("prompt", fields.get("input")), fields.get("query_type", fields.get("qtype"))
    if not isinstance(prompt, str) or not isinstance(label, str):
        raise ValueError("prompt and query_type are required")  # noqa: TRY004 - as other wrong rows
    reference = fields.get("reference", fields.get("output"))
    has_reference = isinstance(reference, str) and bool(usable_references(reference))
    return prompt, _SPELLINGS.get(label) or QueryType(label), has_reference


def _share(right: Sequence[bool]) -> Estimate:
    return share_over_prompts(sum(right), len(right))


def _figure(share: Estimate) -> str:
    return "-" if share.value is None else f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


if __name__ == "__main__":
    main()
