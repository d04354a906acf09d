"""`glassbox calibrate`: measure an encoder's similarities through the service, write a recipe that fits it.

Compares matched pairs (a prompt and its response) with mismatched pairs (a prompt and the next line's response).
The recipe maps the mismatched median to 0 and the matched 90th percentile to 1, linearly, with a floor at 0.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from pydantic import BaseModel

from reward_client.cli.options import add_url, connect, file_path, note, reporting_errors
from reward_client.client import RewardClient
from reward_client.loaded import ENCODER, loaded_info
from reward_client.rows import FileError, read_rows
from reward_client.wire import Info, Item, QueryType, RecipeInfo, Reference, Text, usable_references
from reward_client.writing import check_writable, writing

_MIN_PAIRS = 20
_BATCH = 64
_BASE = "rer"
"""Recipe that the new recipe is like, except for the ranges."""
_MEASURED = ("qr-reference", "qr")
"""Recipes whose reward is the similarity of prompt and response as it is; older services call it `qr`."""
_KEPT = ("open_ended", "closed_ended", "words", "reasoning", "unreadable_relevance", "stop_strings")
"""Its parameters that the new recipe has; an older service does not send them all."""

_EPILOG = """\
Each line of PAIRS is JSON with a prompt, a response that answers it, and optionally a reference. The similarity of
matched pairs is compared with that of mismatched ones (each prompt with the next line's response). The recipe
maps the mismatched median to 0 and the matched 90th percentile to 1, so that relevance has the same scale on any
encoder.

example:
  glassbox calibrate pairs.jsonl recipes/rer-contriever.yaml --url http://127.0.0.1:8000
  glassbox serve --encoder facebook/contriever --recipes-dir recipes --default-recipe rer-contriever
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Write a recipe whose relevance ranges fit the service's encoder.", _EPILOG
    parser.add_argument("pairs", metavar="PAIRS", type=file_path, help="JSONL file of matched pairs")
    parser.add_argument("target", metavar="OUT.yaml", type=file_path, help="recipe to write")
    parser.add_argument("--similarity", choices=["cosine", "dot"], default="cosine", help="(default: cosine)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.yaml if it exists")
    add_url(parser)


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Measure, write the recipe, print what was measured; return the exit status."""
    with reporting_errors("calibrate"):
        _check_target(arguments.target, overwrite=arguments.overwrite)
        with connect(arguments.url, arguments.wait) as client:
            print(calibrate(client, arguments.pairs, arguments.target, arguments.similarity))
    return 0


def _check_target(target: Path, *, overwrite: bool) -> None:
    """Raise FileError or OutputError when the recipe could not be written at the end of the measurement."""
    if target.suffix not in (".yaml", ".yml"):
        raise FileError(f"{target}: the file of a recipe ends in .yaml")
    if target.exists() and not overwrite:
        raise FileError(f"{target} exists; choose another file, or --overwrite")
    check_writable(target)


@dataclass(frozen=True, slots=True)
class Similarities:
    """Measured similarities for one kind of relevance."""

    matched: Sequence[float]
    mismatched: Sequence[float]

    @property
    def bounds(self) -> tuple[float, float]:
        """Similarities that map to 0 and 1. Raises FileError when the encoder does not distinguish the pairs."""
        low, high = median(self.mismatched), quantiles(self.matched, n=10)[-1]
        if not low < high:
            raise FileError(f"matched pairs ({high:.3f}) are no more similar than mismatched ones ({low:.3f})")
        return round(low, 4), round(high, 4)

    def __str__(self) -> str:
        low, high = self.bounds
        share = sum(m > x for m, x in zip(self.matched, self.mismatched, strict=True)) / len(self.matched)
        return (
            f"matched median {median(self.matched):.3f}, mismatched {median(self.mismatched):.3f}, "
            f"matched wins {share:.0%} of {len(self.matched)} pairs; [{low:g}, {high:g}] maps to [0, 1]"
        )


def calibrate(client: RewardClient, pairs: Path, target: Path, similarity: str) -> str:
    """Measure on `pairs`, write the recipe to `target`, return a summary. Raises FileError and RewardError."""
    rows = read_rows(pairs, _pair)
    if len(rows) < _MIN_PAIRS:
        raise FileError(f"{pairs} has {len(rows)} pairs, {_MIN_PAIRS} are needed")
    info = loaded_info(client, note, kinds=[ENCODER])
    if info.relevance is None:
        raise FileError("this service has no relevance encoder; start it with --encoder")
    base = next((recipe for recipe in info.recipes if recipe.name == _BASE), None)
    if base is None:
        raise FileError(f"this service has no recipe {_BASE}, whose factors the new recipe takes")
    recipe = _measuring_recipe(info)
    query = _measure(client, recipe, [(row.prompt, row.response) for row in rows], similarity)
    referenced = [(text, row.response) for row in rows for _, text in usable_references(row.reference)[:1]]
    enough = len(referenced) >= _MIN_PAIRS
    reference = _measure(client, recipe, referenced, similarity) if enough else query
    with writing(target):
        target.write_text(recipe_yaml(info.relevance.id, base, similarity, query, reference), encoding="utf-8")
    kind = "references" if enough else f"prompts: {len(referenced)} references, {_MIN_PAIRS} needed"
    return f"{info.relevance.id}\n  query relevance: {query}\n  from {kind}: {reference}\nwrote {target}"


def _measuring_recipe(info: Info) -> str:
    known = {recipe.name for recipe in info.recipes}
    if found := next((name for name in _MEASURED if name in known), None):
        return found
    raise FileError(f"this service has no recipe {_MEASURED[0]}, with which similarities are measured")


class _Pair(BaseModel):
    """A line of the file; other fields are ignored."""

    prompt: Text
    response: Text
    reference: Reference | None = None
    """Of several, the first is measured."""


def _pair(fields: dict[str, Any], _: int) -> _Pair:
    return _Pair.model_validate(fields)


def recipe_yaml(
    encoder: str, base: RecipeInfo, similarity: str, query: Similarities, reference: Similarities
) -> str:
    """The text of a recipe with the factors of `base` and the measured ranges (JSON values are YAML)."""
    fields: dict[str, Any] = {
        "description": f"The full reward with relevance scaled to {encoder}, from {len(query.matched)} pairs.",
        **{name: base.parameters[name] for name in _KEPT if name in base.parameters},
        "similarity": similarity,
        "query_relevance_range": list(query.bounds),
        "reference_relevance_range": list(reference.bounds),
        "relevance_floor": 0.0,
        "calibrated_for": encoder,
    }
    if similarity == "dot":
        fields["reward_range"] = [0.0, 10.24]  # twice the largest incentive; a dot product is unbounded
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in fields.items())


def _measure(client: RewardClient, recipe: str, pairs: Sequence[tuple[str, str]], similarity: str) -> Similarities:
    shifted = [(text, pairs[(i + 1) % len(pairs)][1]) for i, (text, _) in enumerate(pairs)]
    matched, mismatched = (_similarities(client, recipe, rows, similarity) for rows in (pairs, shifted))
    return Similarities(matched, mismatched)


def _similarities(
    client: RewardClient, recipe: str, pairs: Sequence[tuple[str, str]], similarity: str
) -> list[float]:
    values: list[float] = []
    overrides = {"similarity": similarity, "relevance_sees_cut_response": False, "empty_is_zero": False}
    for start in range(0, len(pairs), _BATCH):
        items = [
            Item(prompt=text, response=response, query_type=QueryType.OPEN_ENDED)
            for text, response in pairs[start : start + _BATCH]
        ]
        reply = client.score(items, recipe=recipe, recipe_overrides=overrides)
        measured = [result.features.get("query_relevance") for result in reply.results]
        values += [value for value in measured if value is not None]
        if len(values) != start + len(items):
            raise FileError(f"the service returned no query_relevance: check its recipe {recipe}")
    return values
