"""Accuracy of recipes on the embedded battery of `glassbox probe`, by kind, with the service's own models.

    python -m tools.battery --recipe li --recipe rer            both halves
    python -m tools.battery --recipe rer --half held_out --gold
    python -m tools.battery --recipe rer --half development --lost      pairs that were not won

The service runs in this process. Choose features and parameters on the half `development`, report `held_out`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from fastapi.testclient import TestClient

from reward_client import RewardClient
from reward_client.probe.case import EMBEDDED, embedded_cases
from reward_client.probe.report import Report, build, to_blame, win
from reward_client.probe.run import Pair, probe
from reward_client.probe.scorers import Failed, ScoreProtocol
from reward_client.probe.table import render
from reward_service.app import create_app
from reward_service.settings import NO_MODEL, Settings

Measured = tuple[Report, list[Pair]]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table by kind with a column for each recipe; with one recipe, the whole report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", required=True, help="repeat it for several")
    parser.add_argument("--half", choices=["development", "held_out"], help="(default: both)")
    parser.add_argument("--gold", action="store_true", help="also the embedded gold model")
    parser.add_argument("--lost", action="store_true", help="list the pairs in which the good answer does not win")
    parser.add_argument("--recipes-dir", type=Path, help="folder with more recipes")
    arguments = parser.parse_args(argv)
    models = {} if arguments.gold else {"gold": NO_MODEL}
    settings = Settings(recipes_dir=arguments.recipes_dir, **models)
    measured = measure(settings, arguments.recipe, arguments.half, gold=arguments.gold)
    reports = [report for report, _ in measured]
    for report, pairs in measured if arguments.lost else ():
        print("\n".join([f"not won with {report.subject['recipe']}:", *_lost(pairs), ""]))
    print(render(reports[0]) if len(reports) == 1 else _table(reports))
    return 0


def measure(settings: Settings, recipes: Sequence[str], half: str | None, *, gold: bool = False) -> list[Measured]:
    """The report of each recipe with its pairs, on a service with `settings` in this process."""
    cases = embedded_cases(half)
    with TestClient(create_app(settings), "http://localhost") as service:
        service.post("/get_reward", json={"query": "Hi?", "prompts": "Hi?"})  # returns when the models are loaded

        def forward(request: httpx.Request) -> httpx.Response:
            headers = {"content-type": "application/json"}
            response = service.request(request.method, request.url.path, content=request.content, headers=headers)
            return httpx.Response(response.status_code, content=response.content)

        measured = []
        with RewardClient("http://in-process", transport=httpx.MockTransport(forward)) as client:
            for number, recipe in enumerate(recipes):
                scorer = ScoreProtocol(client, recipe, gold=gold and number == 0)
                pairs = probe(cases, scorer, on_progress=lambda p: print(f"\r{p}", end="", file=sys.stderr))
                prompts = f"{EMBEDDED}, {half or 'both halves'}"
                measured.append((build(pairs, scorer.subject, prompts, len(cases)), pairs))
    print(file=sys.stderr)
    return measured


def _lost(pairs: Sequence[Pair]) -> Iterator[str]:
    """Kind, both rewards, what is to blame, and the beginning of prompt and response."""
    for pair in pairs:
        good, worse = pair.good, pair.worse
        if isinstance(good, Failed) or isinstance(worse, Failed):
            yield f"{pair.kind.name:22} {pair.error}"
        elif win(good.reward, worse.reward) < 1:
            blamed = to_blame(good.factors, worse.factors)
            texts = f"{pair.case.prompt[:40]!r} {pair.text[:60]!r}"
            yield f"{pair.kind.name:22} {good.reward:8.4f} {worse.reward:8.4f}  {blamed or '-':20} {texts}"


def _table(reports: Sequence[Report]) -> str:
    names = [str(report.subject["recipe"]) for report in reports]
    lines = [f"{'accuracy':24}{'pairs':>6}" + "".join(f"{name[:12]:>13}" for name in names)]
    for kinds in zip(*(report.kinds for report in reports), strict=True):
        figures = [f"{kind.accuracy:.3f}" if kind.accuracy is not None else "-" for kind in kinds]
        lines.append(f"{kinds[0].name:24}{kinds[0].pairs:>6}" + "".join(f"{figure:>13}" for figure in figures))
    means = [f"{report.accuracy:.3f}" if report.accuracy is not None else "-" for report in reports]
    lines.append(f"{'mean over kinds':24}{reports[0].n_pairs:>6}" + "".join(f"{mean:>13}" for mean in means))
    lowest = [min(kind.accuracy for kind in report.kinds if kind.accuracy is not None) for report in reports]
    lines.append(f"{'lowest kind':30}" + "".join(f"{low:>13.3f}" for low in lowest))
    if reports[0].gold_accuracy is not None:
        lines.append(f"gold model: {reports[0].gold_accuracy:.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
