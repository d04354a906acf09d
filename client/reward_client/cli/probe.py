"""`glassbox probe`: show what a reward pays for, before a policy finds out."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reward_client.cli.options import (
    add_batch,
    add_url,
    bounded_number,
    check_outputs,
    connect,
    file_path,
    given_text,
    progress_line,
    reporting_errors,
    write_text,
)
from reward_client.probe.case import EMBEDDED, Case, embedded_cases, read_cases
from reward_client.probe.page import render as render_page
from reward_client.probe.report import Report, build
from reward_client.probe.run import probe
from reward_client.probe.scorers import OpenRlhfProtocol, ScoreProtocol, Scorer, openrlhf_route
from reward_client.probe.table import render as render_table
from reward_client.urls import urls_from_environment
from reward_client.wire import QueryType

_EPILOG = """\
For each prompt with a good answer the command makes gamed and wrong responses of over forty kinds: padded,
looped, off topic, flattering, a changed number, the prompt copied, … It scores them beside the good answer and
reports by kind how often the worse one earns more, how much it earns, and which feature raised its reward most.

Without --prompts, prompts of this package are used. Each line of FILE is JSON: prompt, response (a good answer),
and for a prompt with one right answer also reference and query_type "closed_ended". A field "worse" may have your
own responses, as lists by kind: {"worse": {"wrong_answer": ["Sydney"], "my kind": ["…"]}}.

Exit status with --require: 0 when the good answer wins at least that share of the pairs in every kind and in the
mean over kinds (a tie is half), 1 otherwise, and also when a pair has no rewards.

examples:
  glassbox probe --recipe li                                     length alone: what does it pay for?
  glassbox probe --recipe my-recipe --prompts prompts.jsonl --html probe.html --require 0.95
  glassbox probe --protocol openrlhf --url http://127.0.0.1:5000/get_reward      a reward server of another kind
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Show what a reward pays for: gamed responses beside good ones.", _EPILOG
    parser.add_argument(
        "--recipe", type=given_text, help="one of the service's recipes (default: the service's default)"
    )
    parser.add_argument("--gold", action="store_true", help="also score with the gold model, for comparison")
    parser.add_argument(
        "--prompts", type=file_path, metavar="FILE", help="JSONL file of prompts with good answers"
    )
    parser.add_argument(
        "--query-type-default",
        type=QueryType,
        choices=list(QueryType),
        help="for prompts in FILE that have a reference and no query_type",
    )
    parser.add_argument(
        "--require", type=bounded_number(0, 1), metavar="SHARE", help="share of the pairs, for instance 0.95"
    )
    parser.add_argument("--json", type=file_path, metavar="OUT", help="write the report as JSON")
    parser.add_argument(
        "--html", type=file_path, metavar="OUT", help="write the report as one HTML page, with examples"
    )
    add_batch(parser)
    parser.add_argument(
        "--protocol",
        choices=["score", "openrlhf"],
        default="score",
        help="openrlhf: --url is any server of OpenRLHF's reward protocol, and the total is all that is known "
        "(default: score)",
    )
    parser.add_argument(
        "--label",
        choices=["reference", "json"],
        default="reference",
        help="what OpenRLHF's labels contain: the reference, or an object with reference and query_type "
        "(default: reference)",
    )
    add_url(parser, with_query=True)  # a server of OpenRLHF's protocol may have one


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Probe, print the table, write the files; return the exit status."""
    if arguments.protocol == "openrlhf" and arguments.gold:
        sys.exit(
            "glassbox probe: --gold needs --protocol score: OpenRLHF's protocol has one reward for each sample"
        )
    with reporting_errors("probe"):
        check_outputs(arguments, arguments.prompts)
        cases, source = _cases(arguments.prompts, arguments.query_type_default)
        with _scorer(arguments) as scorer:
            with progress_line() as show:
                pairs = probe(cases, scorer, batch=arguments.batch, on_progress=show)
            report = build(pairs, scorer.subject, source, len(cases), arguments.require)
        print(render_table(report))
        write_text(arguments.json, report.model_dump_json(indent=1) + "\n")
        write_text(arguments.html, render_page(report))
    return exit_status(report)


def exit_status(report: Report) -> int:
    """1 when a requirement is not met or nothing could be compared, else 0."""
    met = report.requirement is None or report.requirement.met
    return 0 if met and report.n_pairs else 1


def _cases(prompts: Path | None, query_type_default: QueryType | None) -> tuple[list[Case], str]:
    if prompts is None:
        return embedded_cases(), EMBEDDED
    return read_cases(prompts, query_type_default), prompts.name


@contextmanager
def _scorer(arguments: argparse.Namespace) -> Iterator[Scorer]:
    if arguments.protocol == "score":
        with connect(arguments.url, arguments.wait) as client:
            yield ScoreProtocol(client, arguments.recipe, gold=arguments.gold)
        return
    urls, route = openrlhf_route(arguments.url or urls_from_environment(), arguments.recipe)
    with connect(urls, arguments.wait) as client:
        yield OpenRlhfProtocol(client, route, label_json=arguments.label == "json")
