"""`glassbox engineer`: find a readable recipe that ranks responses as a gold reward does.

input ─▶ rows ─▶ measure (service) ─▶ engineer ─▶ recipe ─▶ check and probe (service) ─▶ files
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reward_client import RewardClient
from reward_client.cli.options import add_batch, add_url, connect, file_path, note, positive_int, reporting_errors
from reward_client.loaded import ENCODER, GOLD, loaded_info
from reward_client.probe.page import render as render_probe
from reward_client.rows import FileError
from reward_client.wire import Info, QueryType, RecipeInfo
from reward_client.writing import writing
from reward_evidence.engineer import summary
from reward_evidence.engineer.caution import warnings
from reward_evidence.engineer.engineering import MIN_PROMPTS, Engineering, engineer
from reward_evidence.engineer.findings import ENGINEERED
from reward_evidence.engineer.measure import Measured, base_recipe, measure, usable
from reward_evidence.engineer.page import render as render_page
from reward_evidence.engineer.recipe_file import overrides_of, recipe_yaml
from reward_evidence.engineer.result import Engineered, ProbeResult
from reward_evidence.engineer.rows import Row, Rows, read
from reward_evidence.engineer.selection import Settings
from reward_evidence.engineer.service_check import check, probe_result, probed
from reward_runs.files import replace_text

_DESCRIPTION = """\
Reverse reward engineering: find a readable recipe that ranks the responses to a prompt as a gold reward does.

The service measures every feature of every response. The recipe is a product of a few features with powers,
saturation and gates, fitted on the order that gold gives the responses to each prompt. Features, shapes and
powers are chosen in inner folds of prompts, and every figure is about outer folds that none of that has seen."""

_EPILOG = f"""\
ROWS has a response a line (prompt, response, gold, and as in POST /score reference and query_type), several to a
prompt; or a prompt a line with lists "responses" and "gold". It may be .jsonl, .json, .csv or .parquet, the output
of `glassbox score --gold`, or the folder of an evaluation. A query type needs {MIN_PROMPTS} prompts whose
responses gold ranks; another one gets the factors of the base recipe.

Written into --out: NAME.yaml (a recipe for `glassbox serve --recipes-dir`), engineer.html and engineer.json,
probe.html, and the measured rows, with which a command that was stopped continues.

examples:
  glassbox engineer scored.jsonl --out results
  glassbox engineer responses.jsonl --gold-from-service --out results --name my-recipe
  glassbox engineer runs/demo --out results --exclude length_incentive content_words
  glassbox recipes check results/engineered.yaml
"""

_METHOD = {
    "model": "product of factors; a factor is a feature, clipped, saturated or gated, to a power",
    "fit": "likelihood of gold's order within prompts (pairwise logistic); every prompt has the same weight",
    "selection": "forward, shapes chosen again after each factor; the smallest number of factors within a "
    "standard error of the best in inner folds of prompts",
    "figures": "outer folds of prompts; mean over prompts; 95 % percentile intervals of a bootstrap over prompts",
    "zeros": "a response whose reward is 0 ties with all others of 0, and is below every other one",
    "missing": "a feature that does not apply to a response has the factor 1",
}
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("sources", nargs="+", type=file_path, metavar="ROWS", help="file of responses, or folder of an evaluation")
    add("--out", type=file_path, required=True, metavar="DIR", help="folder for the recipe and the report")
    add("--name", type=_name, default="engineered", help="name of the recipe (default: engineered)")
    add("--gold-from-service", action="store_true", help="the service's gold model scores rows without gold")
    add(
        "--query-type-default",
        type=QueryType,
        choices=list(QueryType),
        help="for rows that have a reference and no query_type",
    )
    add("--limit", type=positive_int, metavar="N", help="read only the first N rows of each file")
    add_batch(parser)
    add("--overwrite", action="store_true", help="measure again, instead of continuing with what is in DIR")
    fitting = parser.add_argument_group("fitting")
    add = fitting.add_argument
    add("--base-recipe", metavar="NAME", help="its reading of texts is used (default: glassbox)")
    add("--features", nargs="+", metavar="F", help="the features to choose from (default: all of the service)")
    add("--exclude", nargs="+", default=[], metavar="F", help="features that must not be used")
    add("--max-factors", type=int, choices=range(1, 7), default=6, help="of a query type (default: 6)")
    add("--folds", type=int, choices=range(2, 11), default=5, help="inner and outer folds (default: 5)")
    add("--seed", type=int, default=0, help="of folds, pairs and intervals (default: 0)")
    add("--probe", action=argparse.BooleanOptionalAction, default=True, help="probe the recipe (default: yes)")
    add_url(parser)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of lower-case letters, digits, '-', '_' and '.'")
    return text


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Engineer a recipe and write the files; return the exit status."""
    with reporting_errors("engineer"):
        rows = read(options.sources, options.limit, needs_gold=not options.gold_from_service)
        with connect(options.url, options.wait) as client:
            result, page_of = _engineered(options, rows, client)
        _write(options.out / "engineer.json", result.json())
        _write(options.out / "engineer.html", page_of)
    sys.stdout.write(f"{summary.render(result)}\n")
    return 0


def _engineered(options: argparse.Namespace, rows: Rows, client: RewardClient) -> tuple[Engineered, str]:
    """The result and its page; the recipe and the probe's page are written."""
    kinds = [ENCODER, GOLD] if any(row.gold is None for row in rows.rows) else [ENCODER]
    info = loaded_info(client, note, kinds=kinds)
    base = base_recipe(info, options.base_recipe)
    measured = _measured(options, rows.rows, client, info, base)
    settings = Settings(options.max_factors, options.folds, options.seed)
    found = engineer(measured, base, settings, note)
    factors = {kind: one.factors for kind, one in found.types.items()}
    overrides = overrides_of(factors)
    left_out = measured.several_references
    checked = check(client, base.name, overrides, rows.rows, found.rewards, left_out, options.query_type_default)
    gold = _gold_of(rows.rows, info)
    _write(options.out / f"{options.name}.yaml", recipe_yaml(_description(gold, found), base, factors))
    probe = _probed(options, rows.rows, client, base, overrides, found) if options.probe else None
    labels = {feature.name: feature.label for feature in info.features}
    result = Engineered(
        name=options.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        settings={"input": [str(source) for source in options.sources], **asdict(settings)},
        features=sorted(measured.bounds),
        gold=gold,
        n_rows=len(rows.rows),
        n_merged=rows.n_merged,
        base=base.name,
        types=found.types,
        overall=found.overall,
        service=checked,
        probe=probe,
        warnings=warnings(found.types, found.overall, checked, probe, labels),
        notices=[*measured.notices, *_notices(rows)],
        method=_METHOD,
    )
    return result, render_page(result, rows.rows, labels)


def _probed(
    options: argparse.Namespace,
    rows: Sequence[Row],
    client: RewardClient,
    base: RecipeInfo,
    overrides: Mapping[str, Any],
    found: Engineering,
) -> ProbeResult:
    report = probed(
        client,
        base.name,
        overrides,
        options.name,
        gold=all(row.gold is None for row in rows),
        query_types=frozenset(kind for kind, one in found.types.items() if one.not_fitted is None),
        show=_show,
    )
    note("")
    _write(options.out / "probe.html", render_probe(report))
    return probe_result(report)


def _measured(
    options: argparse.Namespace, rows: Sequence[Row], client: RewardClient, info: Info, base: RecipeInfo
) -> Measured:
    if info.gold is None and any(row.gold is None for row in rows):
        raise FileError("--gold-from-service: this service has no gold model; start it with --gold")
    features = usable(info, options.features, options.exclude)
    if not features:
        raise FileError("no feature is left to choose from: check --features and --exclude")
    with writing(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    measured = measure(
        client,
        info,
        rows,
        features,
        base,
        options.out,
        _show,
        batch=options.batch,
        overwrite=options.overwrite,
        query_type_default=options.query_type_default,
    )
    note("")
    return measured


def _gold_of(rows: Sequence[Row], info: Info) -> str:
    n_service = sum(row.gold is None for row in rows)
    model = info.gold.id if info.gold else ""
    if n_service == len(rows):
        return f"{model} (the service's)"
    return "scores of the input" if n_service == 0 else f"scores of the input; {model} for {n_service} responses"


def _description(gold: str, found: Engineering) -> str:
    n = sum(one.n_rows for one in found.types.values() if one.not_fitted is None)
    accuracy = found.overall.accuracy[ENGINEERED]
    return (
        f"Fitted by glassbox engineer to rank {n} responses as gold does ({gold}). It ranks {accuracy.mean:.3f} "
        f"of held-out pairs in that order; {accuracy.n} prompts."
    )


def _notices(rows: Rows) -> list[str]:
    if not rows.n_merged:
        return []
    return [
        f"{rows.n_merged} rows repeat prompt and response of another row: the mean of their gold scores counts"
    ]


def _write(path: Path, text: str) -> None:
    replace_text(path, text)
    note(f"wrote {path}")


def _show(text: str) -> None:
    sys.stderr.write(f"\r{text}")
    sys.stderr.flush()
