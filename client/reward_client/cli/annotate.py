"""`glassbox annotate`: query types for a file of prompts."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from reward_client.annotate.annotators import Annotator, classified, keeping
from reward_client.annotate.endpoint import Endpoint
from reward_client.annotate.rows import PromptRow, read_prompts, written
from reward_client.annotate.run import annotate
from reward_client.annotate.summary import Summary
from reward_client.cli.options import (
    add_wait,
    bounded_number,
    check_endpoint,
    file_path,
    positive_int,
    reporting_errors,
    url,
)
from reward_client.client import RewardClient
from reward_client.completions import base_url
from reward_client.errors import RewardError
from reward_client.rows import STANDARD_STREAM, FileError, row_unit
from reward_client.score_file import check_not_input
from reward_client.score_output import write_rows
from reward_client.urls import ENDPOINT_KEY_VARIABLE, key_from_environment
from reward_client.writing import check_writable

_EPILOG = """\
The query type selects the branch of a reward. closed_ended: the prompt determines the content of the answer, so
that it is compared with a reference. open_ended: many answers with different content are good. A reference does
not decide it: in the published data every row has one, and half of the rows are open-ended.

Each row of IN has a field prompt (text or a list of messages). OUT has the rows with query_type, query_type_by
(given, classifier or endpoint), query_type_confidence and query_type_review, which is true for a row that was left
to a person. Rows that have a query type keep it. IN and OUT may be .jsonl, .csv, .parquet, IN also .json, or -.

Without --endpoint a small classifier of this package is used, which was fitted on this project's prompts:
docs/how-to/annotate-query-types.md has its accuracy. It knows English best.

Exit status: 0; 1 for a failure, or if a row has no query type because the endpoint's reply was unusable; 130 after
Ctrl-C. After each of these OUT can be the next IN: labelled rows keep their labels.

examples:
  glassbox annotate prompts.jsonl annotated.jsonl --min-confidence 0.8
  glassbox annotate prompts.csv annotated.csv --endpoint http://127.0.0.1:8001 --model Qwen/Qwen3-8B
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Annotate prompts with their query types.", _EPILOG
    parser.add_argument("source", metavar="IN", type=file_path, help="file of prompts, or -")
    parser.add_argument("target", metavar="OUT", type=file_path, help="file to write, or -")
    parser.add_argument(
        "--min-confidence",
        type=bounded_number(0, 1),
        default=0.0,
        metavar="P",
        help="leave rows below it without a query type, for a person (classifier only; default: 0)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace query types that rows have already")
    parser.add_argument(
        "--prompt-field", default="prompt", metavar="NAME", help="field with the prompt (default: prompt)"
    )
    parser.add_argument("--limit", type=positive_int, metavar="N", help="read only the first N rows of IN")
    group = parser.add_argument_group("a language model instead of the classifier")
    group.add_argument(
        "--endpoint",
        type=url,
        metavar="URL",
        help="OpenAI-compatible server, for instance http://127.0.0.1:8001; its key is read from "
        f"{ENDPOINT_KEY_VARIABLE}",
    )
    group.add_argument("--model", metavar="NAME", help="model of the endpoint")
    add_wait(group)
    group.add_argument(
        "--concurrency", type=positive_int, default=8, metavar="N", help="requests at a time (default: 8)"
    )
    group.add_argument(
        "--max-tokens",
        type=positive_int,
        default=16,
        metavar="N",
        help="tokens of a reply (default: 16); models that reason before they answer need more",
    )


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Annotate the file, showing progress; return the exit status."""
    with reporting_errors("annotate"):
        _check(options)
        rows = read_prompts(options.source, options.prompt_field, options.limit)
        summary = Summary(f"{options.source}, {row_unit(options.source)}", options.min_confidence)
        with _annotator(options, rows) as annotator:
            lines, failure = _annotated(rows, annotator, options, summary)
        print(file=sys.stderr)
        write_rows(lines, options.target)
        print(f"{summary}\nwritten to {options.target}", file=sys.stderr)
        if isinstance(failure, KeyboardInterrupt):
            print(f"stopped; {options.target} has all rows: annotate it to continue", file=sys.stderr)
            return 130
        if failure is not None:
            raise failure
    return 1 if summary.errors else 0


def _check(options: argparse.Namespace) -> None:
    if (options.endpoint is None) != (options.model is None):
        raise FileError("--endpoint and --model are needed together")
    check_not_input(options.source, options.target)
    if options.target == STANDARD_STREAM:
        return
    if options.target.exists():
        raise FileError(f"{options.target} exists; choose another output file")
    check_writable(options.target)


@contextmanager
def _annotator(options: argparse.Namespace, rows: Sequence[PromptRow]) -> Iterator[Annotator]:
    """What annotates a row; rows with a label keep it, unless `--overwrite`."""
    if options.endpoint is None:
        yield classified if options.overwrite else keeping(classified)
        return
    address, key = base_url(options.endpoint), key_from_environment(variable=ENDPOINT_KEY_VARIABLE)
    if options.overwrite or any(row.label is None for row in rows):
        check_endpoint(address, key, options.wait)
    with RewardClient(address, api_key=key) as client:
        endpoint = Endpoint(client, options.model, options.max_tokens)
        yield endpoint if options.overwrite else keeping(endpoint)


def _annotated(
    rows: Sequence[PromptRow], annotator: Annotator, options: argparse.Namespace, summary: Summary
) -> tuple[list[dict[str, Any]], RewardError | KeyboardInterrupt | None]:
    """The rows of the output, and the error or Ctrl-C that ended the run before the last one.

    Rows after it are written as they are, so that no label is lost. Without a new label, it is raised.
    """
    lines: list[dict[str, Any]] = []
    has_new = False
    try:
        concurrency = 1 if options.endpoint is None else options.concurrency
        for row, label, progress in annotate(rows, annotator, concurrency=concurrency):
            lines.append(written(row, label, options.min_confidence))
            has_new |= label.source != "given" and label.query_type is not None
            summary.add(row, label)
            print(f"\r{progress}", end="", file=sys.stderr, flush=True)
    except (RewardError, KeyboardInterrupt) as exc:
        if not has_new:
            raise
        return lines + [dict(row.fields) for row in rows[len(lines) :]], exc
    return lines, None
