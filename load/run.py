"""make soak: load, overload and kills for an hour and more, against the real service on the loopback.

    python -m load.run [fuzz] [posts] [overload] [kills] [mixed] [--minutes 30] [--short]

    fuzz      more than 20,000 generated cases                            about 7 minutes
    posts     thousands of one-sample posts at once                       about 3 minutes
    overload  ten times what the service can do                           about 6 minutes
    kills     SIGKILL and SIGTERM under load, bare and behind HAProxy     about 30 minutes
    mixed     a run's day in small: everything at once, memory watched    --minutes

Each says what it does at the top of its module. What was measured goes to load/RESULTS.md, a section a scenario;
`--short` runs all of them small in about ten minutes and writes nothing unless `--results` names a file.
Exit status: 0 everything held, 1 something did not hold, 2 something could not be run.
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
from load.service import SoakError
from tools.demo import say

RESULTS = Path(__file__).parent / "RESULTS.md"
SCENARIOS = ("fuzz", "posts", "overload", "kills", "mixed")
_LIMITS_S = {"fuzz": 30 * 60, "posts": 20 * 60, "overload": 15 * 60, "kills": 90 * 60}
_MARGIN_S = 15 * 60
"""Of the mixed load, beyond the minutes asked for."""
_LIBRARIES = ("torch", "transformers", "openvino", "uvicorn", "aiohttp", "httpx", "openrlhf")


def circumstances(plan: Plan) -> str:
    """When, on what, with what."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    machine = f"{platform.machine()}, {_cpu_name()}, {os.cpu_count()} cores"
    python = f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    return f"{time.strftime('%Y-%m-%d %H:%M')}, {plan.form}; {machine}; {python}; {libraries}."


def _cpu_name() -> str:
    """The processor, as Linux calls it; benchmarks have the same, but load torch and its models with it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def perform(scenario: str, plan: Plan) -> list[Findings]:
    """Run one, inside its time limit; one that cannot go on has not held."""
    limit_s = _LIMITS_S.get(scenario, plan.mixed_s + _MARGIN_S)
    signal.alarm(int(limit_s))
    try:
        findings: list[Findings] = importlib.import_module(f"soak.{scenario}").run(plan)
    except SoakError as exc:
        findings = [Findings(scenario, "It could not go on.", [Check("it runs to its end", str(exc), held=False)])]
    finally:
        signal.alarm(0)
    return findings


def _stop(number: int, _: FrameType | None) -> None:
    sys.exit("a scenario took longer than it may" if number == signal.SIGALRM else 143)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the scenarios, print and write what came of them; the exit status."""
    given = parse(argv)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _stop)
    results = Results(given.results) if given.results else None
    found: list[Findings] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(Path(folder), given.short, given.minutes)
        for scenario in given.scenarios or SCENARIOS:
            say(f"{scenario}: begins ({plan.form})")
            if results is not None:
                results.put(scenario, {scenario: "**Did not come to its end.**"})
            findings = perform(scenario, plan)
            sections = {f.scenario: f.markdown(circumstances(plan)) for f in findings}
            for finding in findings:
                say(f"{finding.scenario}: {finding.verdict}\n{sections[finding.scenario]}")
            if results is not None:
                results.put(scenario, sections)
            found += findings
    return exit_status(found)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; results are kept of full runs, and of short ones when a file is named."""
    parser = argparse.ArgumentParser(
        prog="python -m load.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all of them")
    parser.add_argument("--minutes", type=float, default=30.0, help="of mixed load (default: 30)")
    parser.add_argument(
        "--short",
        action="store_true",
        help="a twentieth of the cases, 200 posts, 24 s of overload, 2 kills, 1 minute mixed",
    )
    parser.add_argument(
        "--results", type=Path, help="Markdown file to write to (default: load/RESULTS.md, if not short)"
    )
    given = parser.parse_args(argv)
    unknown = sorted(set(given.scenarios) - set(SCENARIOS))
    if unknown:
        parser.error(f"unknown scenario: {', '.join(unknown)}")
    if given.results is None and not given.short:
        given.results = RESULTS
    return given


if __name__ == "__main__":
    sys.exit(main())
