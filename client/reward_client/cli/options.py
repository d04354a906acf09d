"""Option types and options that several commands share."""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from reward_client.client import RewardClient
from reward_client.endpoints import CircuitPolicy
from reward_client.errors import RewardError, RewardUnavailableError
from reward_client.retry import RetryPolicy
from reward_client.rows import STANDARD_STREAM, FileError
from reward_client.score_file import check_not_input
from reward_client.urls import (
    API_KEY_VARIABLE,
    DEFAULT_URL,
    URL_VARIABLE,
    Address,
    key_from_environment,
    urls_from_environment,
)
from reward_client.writing import check_writable, writing

_ANSWER_S = 5.0
"""Seconds in which a service that is there answers, however busy it is."""


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    if number > sys.maxsize:
        raise argparse.ArgumentTypeError(f"{text[:40]} is too large")
    return number


def positive_float(text: str) -> float:
    """A finite number above 0, for instance of seconds."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def bounded_number(low: float, high: float) -> Callable[[str], float]:
    """The type of a number between `low` and `high`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return number


def given_text(text: str) -> str:
    """A text that is not empty: an unset variable of a shell is not the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty; leave the option out for its default")
    return text


def file_path(text: str) -> Path:
    """The path of a file or folder; an empty one would be the current folder."""
    return Path(given_text(text))


def url(text: str, *, with_query: bool = False) -> str:
    """The URL of a service. An error message never shows a key in it."""
    try:
        Address.parse(text, with_query=with_query)
    except RewardError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    return text


class KeyValue(argparse.Action):
    """NAME=VALUE pairs, collected in a dictionary; a value is read as JSON, or else taken as text."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add `values` to the dictionary."""
        pairs = dict(getattr(namespace, self.dest) or {})
        for text in values:
            key, equals, value = text.partition("=")
            if not equals or not key:
                parser.error(f"{option_string} takes NAME=VALUE, got {text!r}")
            try:
                pairs[key] = json.loads(value)
            except (ValueError, RecursionError):
                pairs[key] = value
        setattr(namespace, self.dest, pairs)


def add_url(parser: argparse.ArgumentParser, *, with_query: bool = False) -> None:
    """Add `--url`, which may be given once for each replica, and `--wait`."""
    parser.add_argument(
        "--url",
        action="append",
        type=partial(url, with_query=with_query),
        help=f"URL of the service (default: {URL_VARIABLE}, else {DEFAULT_URL}); repeat it for several replicas. "
        f"The API key is read from {API_KEY_VARIABLE}",
    )
    add_wait(parser)


def add_wait(parser: argparse._ActionsContainer) -> None:
    """Add `--wait`."""
    parser.add_argument(
        "--wait",
        type=positive_float,
        metavar="S",
        help="wait up to S seconds for a server that is starting (default: one that is not there is an "
        "error at once)",
    )


def add_batch(parser: argparse._ActionsContainer) -> None:
    """Add `--batch N`."""
    parser.add_argument(
        "--batch", type=positive_int, default=64, metavar="N", help="items in a request (default: 64)"
    )


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that score a file IN of items."""
    add_batch(parser)
    parser.add_argument(
        "--query-type-default",
        choices=["open_ended", "closed_ended"],
        help="for items that have a reference and no query_type",
    )
    parser.add_argument("--limit", type=positive_int, metavar="N", help="read only the first N rows of IN")
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="leave out rows that cannot be scored, and name them at the end (default: stop at the first)",
    )


def add_recipe_overrides(group: argparse._ArgumentGroup) -> None:
    """Add `--recipe-override K=V …`."""
    group.add_argument(
        "--recipe-override",
        dest="recipe_overrides",
        action=KeyValue,
        nargs="+",
        metavar="K=V",
        help="parameters of the recipe for this run",
    )


def connect(urls: Sequence[str] | None, wait_s: float | None = None) -> RewardClient:
    """A client for the URLs of `--url`, else of the environment, and its key, once one of them answers.

    Without `wait_s` it is enough that something answers: the client itself waits for models that load. Raises
    RewardUnavailableError when no URL answers, or, with `wait_s`, none is ready in that time.
    """
    key, addresses = key_from_environment(), urls or urls_from_environment()
    started_s = time.monotonic()
    with _probing_client(addresses, key, wait_s) as client:
        try:
            client.ready(deadline_s=wait_s or _ANSWER_S)
        except RewardUnavailableError as exc:
            if wait_s is not None or isinstance(exc.__cause__, httpx.RequestError):
                waited_s = None if wait_s is None else time.monotonic() - started_s
                raise RewardUnavailableError(_not_there(client.urls, waited_s, exc)) from exc
        except RewardError:
            pass  # something answers, perhaps without this route: the call itself will report what is wrong
    return RewardClient(addresses, api_key=key)


def check_endpoint(url: str, key: str | None, wait_s: float | None = None) -> None:
    """Check that a server answers at `url`, whatever it answers: an OpenAI-compatible one, not the reward service.

    Raises RewardUnavailableError when nothing can be connected to at once, or, with `wait_s`, in that time.
    """
    started_s = time.monotonic()
    with _probing_client(url, key, wait_s) as client:
        try:
            client.request("GET", "/models", deadline_s=wait_s or _ANSWER_S)
        except RewardUnavailableError as exc:
            if isinstance(exc.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
                after = "" if wait_s is None else f" after {time.monotonic() - started_s:.1f} s"
                hint = "" if wait_s else ", or wait for it with --wait 60"
                raise RewardUnavailableError(
                    f"no server answers at {client.urls[0]}{after} ({', '.join(exc.causes)}): start it, or "
                    f"correct --endpoint{hint}"
                ) from exc
        except RewardError:
            pass  # it answers, perhaps without this route


def _probing_client(urls: str | Sequence[str], key: str | None, wait_s: float | None) -> RewardClient:
    """A client that tries about once a second for `wait_s`, or once."""
    return RewardClient(
        urls,
        api_key=key,
        retry=RetryPolicy(budget_s=wait_s or 0.0, max_delay_s=1.0, max_retry_after_s=1.0),
        circuit=CircuitPolicy(max_open_s=1.0),
        connect_timeout_s=_ANSWER_S / 2,
    )


def _not_there(urls: Sequence[str], waited_s: float | None, exc: RewardUnavailableError) -> str:
    where, after = " or ".join(urls), "" if waited_s is None else f" after {waited_s:.1f} s"
    seen = f" ({', '.join(exc.causes)})" if exc.causes else ""
    if not isinstance(exc.__cause__, httpx.RequestError):
        return f"the service at {where} is not ready{after}{seen}: see `glassbox doctor --url {urls[0]}`"
    hint = "start it with `glassbox serve`" + ("" if waited_s else ", or wait for it with --wait 60")
    if "WRONG_VERSION_NUMBER" in seen:
        hint = "the server there speaks no https; begin the URL with http://"
    return f"no service answers at {where}{after}{seen}: {hint}"


def note(line: str) -> None:
    """Show a line of progress on standard error."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_line() -> Iterator[Callable[[object], None]]:
    """Yields a function that shows progress on one line of standard error; the line ends with the block."""
    shown = False

    def show(progress: object) -> None:
        nonlocal shown
        print(f"\r{progress}", end="", file=sys.stderr, flush=True)
        shown = True

    try:
        yield show
    finally:
        if shown:
            print(file=sys.stderr)


@contextmanager
def reporting_errors(command: str) -> Iterator[None]:
    """Turn a failure into one line on standard error and exit status 1; Ctrl-C into exit status 130."""
    try:
        yield
    except (RewardError, FileError) as exc:
        sys.exit(f"glassbox {command}: {exc}")
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        sys.exit(130)


def check_outputs(arguments: argparse.Namespace, source: Path | None) -> None:
    """Check the files of `--json` and `--html` before the work is done.

    Raises OutputError if one cannot be written, and FileError if it is the input or both are the same.
    """
    outputs = [path for path in (arguments.json, arguments.html) if path is not None]
    for path in outputs:
        if path == STANDARD_STREAM:
            raise FileError("a report is written to a file; - is none")
        if source is not None:
            check_not_input(source, path)
        check_writable(path)
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise FileError(f"--json and --html both name {outputs[0]}; name two files")


def write_text(path: Path | None, content: str) -> None:
    """Write a report to the file that an option names, if it names one. Raises OutputError."""
    if path is None:
        return
    with writing(path):
        path.write_text(content, encoding="utf-8")
    print(f"wrote {path}")
