"""`glassbox doctor`: check this machine, a service, and the configuration of a training framework."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from reward_client.cli.options import file_path, given_text, positive_float, url
from reward_client.doctor.check import Section, Status, as_json, as_text, count, failed, redact, summary
from reward_client.doctor.diagnosis import Options, diagnose
from reward_client.doctor.exchange import TimeLimit
from reward_client.doctor.frameworks import frameworks
from reward_client.urls import API_KEY_VARIABLE

_EPILOG = """\
Each line shows ok, note (it works, or is not needed), failed or skipped, and what to do. The exit status is 1
when a check failed. The API key is read from GLASSBOX_API_KEY, and never shown.

examples:
  glassbox doctor                                      the base install and this machine
  glassbox doctor --for serve --for train              also everything that serving and training need
  glassbox doctor --url http://127.0.0.1:8000          a service: address, key, models, rewards, latency, failures
  glassbox doctor --url http://127.0.0.1:8000 --framework trl
                                                       also what to paste, and what the framework does on a failure
  glassbox doctor --url http://127.0.0.1:8000 --config train.sh --tokenizer Qwen/Qwen3-0.6B
                                                       also the configuration, and your chat template
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description = "Check this machine, a service, and the configuration of a training framework."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--for",
        dest="uses",
        action="append",
        choices=["serve", "train"],
        default=[],
        help="what this machine is used for: what that needs must be installed; may be repeated",
    )
    parser.add_argument(
        "--url",
        dest="urls",
        action="append",
        default=[],
        type=url,
        help="URL of a service; repeat it for replicas (default: GLASSBOX_URL)",
    )
    parser.add_argument(
        "--framework", choices=list(frameworks()), metavar="NAME", help=f"one of {', '.join(frameworks())}"
    )
    parser.add_argument(
        "--config", type=file_path, metavar="FILE", help="the framework's script, YAML or TOML file"
    )
    parser.add_argument("--tokenizer", metavar="ID", help="tokenizer of the policy: a folder, or an id of the hub")
    parser.add_argument(
        "--recipe", type=given_text, help="recipe of the run (default: that of --config, or of the service)"
    )
    parser.add_argument(
        "--timeout", type=positive_float, default=10.0, metavar="S", help="seconds for one request (default: 10)"
    )
    parser.add_argument(
        "--time-limit", type=positive_float, default=60.0, metavar="S", help="seconds for all checks (default: 60)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the checks; return 1 when one failed."""
    options = Options(
        environ=os.environ,
        uses=arguments.uses,
        urls=arguments.urls,
        framework=arguments.framework,
        config=arguments.config,
        tokenizer=arguments.tokenizer,
        recipe=arguments.recipe,
        timeout_s=arguments.timeout,
        limit_s=arguments.time_limit,
    )
    clock = TimeLimit(arguments.time_limit)
    sections: list[Section] = []
    for section in _without_traceback(diagnose(options)):
        sections.append(section)
        if not arguments.json:
            _print(as_text([section]))
    failures = count(sections, Status.FAILED)
    last = summary(sections, clock.spent_s())
    facts = {"ok": not failures, "summary": last, "seconds": round(clock.spent_s(), 3)}
    _print(as_json(sections, facts) if arguments.json else f"{last}\n")
    return int(bool(failures))


def _without_traceback(sections: Iterator[Section]) -> Iterator[Section]:
    """The sections, the last of which reports an error of a check itself."""
    try:
        yield from sections
    except Exception as exc:  # noqa: BLE001 - a check that fails must not hide the others
        found = f"a check ended with {type(exc).__name__}: {exc}"
        yield Section("doctor", [failed("doctor", found, "report this, with the command")])


def _print(text: str) -> None:
    """Without the key in the environment, whatever a message may contain."""
    key = os.environ.get(API_KEY_VARIABLE, "").strip()
    sys.stdout.write(redact(text, [key] if key else []))
    sys.stdout.flush()
