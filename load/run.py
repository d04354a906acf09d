"""make load: the real service on the loopback under load, overload and kills, for more than an hour.

    python -m load.run [fuzz] [posts] [overload] [callers] [hostile] [kills] [mixed] [--short] [--minutes 30]
                       [--seconds 600] [--seed N] [--baseline FOLDER]

    fuzz      more than 20,000 generated cases                            about 7 minutes
    posts     thousands of one-item posts at once                         about 3 minutes
    overload  ten times the service's capacity                            about 6 minutes
    callers   one caller sends far more than the service can do, one little  about 7 minutes
    hostile   a caller that sends anything, beside honest ones            --seconds
    kills     SIGKILL and SIGTERM under load, alone and behind HAProxy    about 30 minutes
    mixed     every kind of request at once, memory sampled               --minutes

The docstring of each module describes its scenario. The results go to load/RESULTS.md, a section per scenario;
`--short` runs all of them with small sizes in about ten minutes, and writes results only with `--results`.
Exit status: 0 all requirements met, 1 a requirement not met, 2 something could not be run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from load.plan import Plan
from load.report import Check, Findings, Results, exit_status
from load.service import ScenarioError
from tools.console import log, processor_name
from tools.processes import StartError

RESULTS = Path(__file__).parent / "RESULTS.md"
SCENARIOS = ("fuzz", "posts", "overload", "callers", "hostile", "kills", "mixed")
_LIMITS_S = {"fuzz": 30 * 60, "posts": 20 * 60, "overload": 15 * 60, "callers": 30 * 60, "kills": 90 * 60}
_MARGIN_S = 15 * 60
"""Added to the duration of the hostile and the mixed load."""
_LIBRARIES = ("torch", "transformers", "openvino", "uvicorn", "aiohttp", "httpx", "openrlhf")


def environment(plan: Plan) -> str:
    """Date, machine and versions of a run."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    machine = f"{platform.machine()}, {processor_name()}, {os.cpu_count()} cores"
    python = f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    return f"{time.strftime('%Y-%m-%d %H:%M')}, {plan.form}; {machine}; {python}; {libraries}."


def perform(scenario: str, plan: Plan) -> list[Findings]:
    """Run one scenario within its time limit; a scenario that cannot continue does not meet its requirements."""
    limit_s = _LIMITS_S.get(scenario, max(plan.mixed_s, plan.hostile_s) + _MARGIN_S)
    signal.alarm(int(limit_s))
    try:
        findings: list[Findings] = importlib.import_module(f"load.{scenario}").run(plan)
    except (ScenarioError, StartError) as exc:
        findings = [Findings(scenario, "It was interrupted.", [Check("it runs to its end", str(exc), met=False)])]
    finally:
        signal.alarm(0)
    return findings


def _stop(number: int, _: FrameType | None) -> None:
    sys.exit("a scenario exceeded its time limit" if number == signal.SIGALRM else 143)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the scenarios, print and write their findings; the exit status."""
    options = parse(argv)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _stop)
    results = Results(options.results) if options.results else None
    all_findings: list[Findings] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(Path(folder), options.short, options.minutes, options.seconds, options.seed, options.baseline)
        for scenario in options.scenarios or SCENARIOS:
            log(f"{scenario}: starts ({plan.form})")
            if results is not None:
                results.put(scenario, {scenario: "**The last run did not finish.**"})
            findings = perform(scenario, plan)
            sections = {f.scenario: f.markdown(environment(plan)) for f in findings}
            for finding in findings:
                log(f"{finding.scenario}: {finding.verdict}\n{sections[finding.scenario]}")
            if results is not None:
                results.put(scenario, sections)
            all_findings += findings
    return exit_status(all_findings)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; full runs write results by default, short runs only to a file that is named."""
    parser = argparse.ArgumentParser(
        prog="python -m load.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--minutes", type=float, default=30.0, help="duration of the mixed load (default: 30)")
    parser.add_argument("--seconds", type=float, default=600.0, help="duration of the hostile load (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="of the hostile client (default: 0)")
    parser.add_argument("--baseline", type=Path, help="another checkout, to compare the speed of one caller with")
    parser.add_argument(
        "--short",
        action="store_true",
        help="a twentieth of the cases, 200 posts, 24 s of overload, 20 s of hostile load, 2 kills, "
        "1 minute of mixed load",
    )
    parser.add_argument(
        "--results", type=Path, help="Markdown file to write to (default: load/RESULTS.md, unless --short)"
    )
    options = parser.parse_args(argv)
    unknown = sorted(set(options.scenarios) - set(SCENARIOS))
    if unknown:
        parser.error(f"unknown scenario: {', '.join(unknown)}")
    if options.results is None and not options.short:
        options.results = RESULTS
    return options


if __name__ == "__main__":
    sys.exit(main())
