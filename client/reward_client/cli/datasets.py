"""`glassbox datasets`: upload references to a service, list and delete what it keeps."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence

from reward_client.cli.options import add_url, connect, file_path, reporting_errors
from reward_client.client import RewardClient
from reward_client.datasets import Columns, dataset_row, delete_dataset, list_datasets, put_dataset
from reward_client.hub import hub_rows
from reward_client.rows import FileError, NumberedRow, checked_rows, numbered_rows, row_unit
from reward_client.urls import urls_from_environment
from reward_client.wire import DatasetInfo, DatasetRow

_EPILOG = """\
A row has a prompt (text, or a list of messages) and, where they exist, a reference and a query type. A trainer
that sends prompts without references then uses the URL …?dataset=NAME. The action is performed at each --url,
because replicas do not share data sets unless they share a folder.

examples:
  glassbox datasets put train rows.jsonl --url http://127.0.0.1:8000
  glassbox datasets put gsm8k --hub openai/gsm8k --hub-config main \\
    --prompt-column question --reference-column answer
  glassbox datasets list
  glassbox datasets delete train
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples, actions and options."""
    parser.description, parser.epilog = "Keep the references of prompts on a service.", _EPILOG
    actions = parser.add_subparsers(dest="action", required=True, metavar="put | list | delete")
    put = actions.add_parser("put", help="upload a data set, or replace it", allow_abbrev=False)
    put.add_argument(
        "name", type=dataset_name, metavar="NAME", help="of the data set: letters, digits, `.`, `_`, `-`"
    )
    _add_source(put)
    put.add_argument(
        "--query-type-default",
        choices=["closed_ended", "open_ended"],
        default="closed_ended",
        help="for rows that have a reference and no query type (default: closed_ended)",
    )
    put.add_argument(
        "--duplicates",
        choices=["fail", "join"],
        default="fail",
        help="rows with one prompt and other references: an error, or several references (default: fail)",
    )
    delete = actions.add_parser("delete", help="remove a data set", allow_abbrev=False)
    delete.add_argument("name", type=dataset_name, metavar="NAME")
    for action in (put, delete, actions.add_parser("list", help="show the data sets", allow_abbrev=False)):
        add_url(action)


def dataset_name(text: str) -> str:
    """The name of a data set, which is a part of a path; the service says what else is wrong with it."""
    if not text or "/" in text or text in (".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, `.`, `_` and `-`")
    return text


def _add_source(put: argparse.ArgumentParser) -> None:
    source = put.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", type=file_path, metavar="FILE", help="JSON lines, or .json with a list")
    source.add_argument("--hub", metavar="ID", help="data set of the Hugging Face hub; needs the package datasets")
    put.add_argument("--hub-config", metavar="NAME", help="its configuration")
    put.add_argument("--split", default="train", help="its split (default: train)")
    for field, column in Columns().by_field.items():
        option = f"--{field.replace('_', '-')}-column"
        put.add_argument(option, default=column, metavar="NAME", help=f"(default: {column})")


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Perform the action at each URL; return the exit status."""
    with reporting_errors("datasets"):
        perform = {"put": _put, "list": _list, "delete": _delete}[arguments.action](arguments)
        for url in arguments.url or urls_from_environment():
            with connect([url], arguments.wait) as client:
                print(f"{client.urls[0]}: {perform(client)}")
    return 0


Action = Callable[[RewardClient], str]
"""Performs an action at one service, and describes the result."""


def _put(arguments: argparse.Namespace) -> Action:
    columns = Columns(arguments.prompt_column, arguments.reference_column, arguments.query_type_column)
    options = {"duplicates": arguments.duplicates, "query_type_default": arguments.query_type_default}
    rows = _rows(arguments, columns)
    return lambda client: _described(put_dataset(client, arguments.name, rows, columns, **options))


def _rows(arguments: argparse.Namespace, columns: Columns) -> list[tuple[int, DatasetRow]]:
    """The checked rows with their numbers. Raises FileError."""
    found: Iterable[NumberedRow]
    if arguments.hub is None:
        source, unit, found = str(arguments.file), row_unit(arguments.file), numbered_rows(arguments.file)
    else:
        source, unit = arguments.hub, "row"
        found = hub_rows(arguments.hub, arguments.hub_config, arguments.split)
    rows = checked_rows(source, found, lambda row, number: (number, dataset_row(row, columns)), unit=unit)
    if not rows:
        raise FileError(f"{source} has no rows")
    return rows


def _list(_: argparse.Namespace) -> Action:
    def listed(client: RewardClient) -> str:
        kept = list_datasets(client).datasets
        return "\n  ".join([f"{len(kept)} data set(s)", *map(_described, kept)])

    return listed


def _delete(arguments: argparse.Namespace) -> Action:
    def deleted(client: RewardClient) -> str:
        delete_dataset(client, arguments.name)
        return f"deleted {arguments.name}"

    return deleted


def _described(info: DatasetInfo) -> str:
    types = ", ".join(f"{n} {query_type}" for query_type, n in info.query_types.items())
    kept = "on disk" if info.persistent else "in memory, until the service ends"
    return (
        f"{info.name}: {info.rows} rows, {info.prompts} prompts ({types}), {info.with_reference} with a reference;"
        f" {info.n_bytes} bytes {kept}; {info.hits} hits, {info.misses} misses; revision {info.revision[:12]}"
    )
