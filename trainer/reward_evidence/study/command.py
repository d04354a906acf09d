"""`glassbox study`: train recipes × seeds × policies, and compare them.

STUDY.yaml ──▶ plan ──▶ reward service ──▶ StudyRunner: `glassbox train …` for each run ──▶ comparison.html
"""

import argparse
import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from reward_client.cli.options import file_path, positive_int
from reward_evidence.comparison.runs import open_runs
from reward_evidence.report.comparison_page import summary_lines, write_comparison
from reward_evidence.study.planning import TRAIN, PlannedRun, launch_words, plan_runs, train_command
from reward_evidence.study.runner import DEVICES, StudyRunner
from reward_evidence.study.service import reward_service
from reward_evidence.study.spec import PRESETS, Study, read_study
from reward_evidence.study.state import StudyState, end_of
from reward_evidence.study.train_options import check_options
from reward_runs.errors import RunError
from reward_runs.files import lock_folder

_DESCRIPTION = """\
Train every recipe of a study with every seed and policy, evaluate each run, and compare them on one page: gold by
step and by KL, final differences in gold with intervals over seeds and prompts, lengths, features, and responses
side by side. Each run is `glassbox train` in a separate process, with its run directory and log.

Controls show what a difference is worth: learning_rate_0 does not learn, gold trains on the gold reward model.

The same command continues a study that was stopped: runs that have ended are kept, others resume at their last
checkpoint. A run that fails is reported with its cause, and the others continue. Ctrl-C and SIGTERM stop the runs
in order."""

_EPILOG = """\
Written into --out: runs/NAME/ (run directories), logs/NAME.log, study.json, comparison.html, comparison.json.
Exit status: 0 every run finished, or was stopped by its --stop-when; 1 otherwise; 130 stopped.

examples:
  glassbox study demo --dry-run                    show the runs of the preset demo
  glassbox study my-study.yaml                     run, or continue, a study
  glassbox study my-study.yaml --jobs 2            two runs at the same time; on a Ray cluster, if the file has ray
  glassbox study paper --out runs/paper            the rewards of the paper; set policies and prompts in a file

docs/how-to/run-a-study.md lists the fields of a study file."""

EXIT_STOPPED = 130


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("study", metavar="STUDY", help=f"a YAML file, or a preset: {', '.join(PRESETS)}")
    add("--out", type=file_path, metavar="DIR", help="folder of the study (default: runs/study-NAME)")
    add("--jobs", type=positive_int, default=1, metavar="N", help="runs at the same time (default: 1)")
    add("--dry-run", action="store_true", help="show the runs and their commands, and stop")


def run(options: argparse.Namespace, _: Sequence[str], train: Sequence[str] = TRAIN) -> int:
    """Run or continue the study; return the exit status. `train` is the command of a run, without its options."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        study = read_study(options.study)
        runs = plan_runs(study)
        check_options(study, runs)
        out = options.out or Path("runs") / f"study-{study.name}"
        if options.dry_run:
            _show_plan(study, runs, out, options.jobs)
            return 0
        with lock_folder(out):
            return _run(study, runs, out, options.jobs, train)
    except RunError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("stopped; run the same command again to continue\n")
        return EXIT_STOPPED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run(study: Study, runs: Sequence[PlannedRun], out: Path, jobs: int, train: Sequence[str]) -> int:
    state = StudyState(out)
    state.plan(runs)
    if not all(end_of(state.run_dir(run)) for run in runs):
        with reward_service(study.service, out / "service.log", _log) as (url, check):
            words, environment = launch_words(study), os.environ.copy()
            if study.ray is not None:  # it gives each run its devices
                environment.pop(DEVICES, None)
            runner = StudyRunner(
                state, url, _log, jobs=jobs, launcher=words, train=train, check=check, environment=environment
            )
            asyncio.run(_until_stopped(runner, runs))
    ended = [run for run in runs if end_of(state.run_dir(run))]
    for failed in (run for run in runs if run not in ended):
        sys.stderr.write(f"error: {failed.name}: {state[failed].cause}; see {state.log(failed)}\n")
    if ended:
        _compare(study, ended, state)
    return 0 if len(ended) == len(runs) else 1


async def _until_stopped(runner: StudyRunner, runs: Sequence[PlannedRun]) -> None:
    """Run; SIGTERM cancels, as asyncio does on SIGINT."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await runner.run(runs)


def _compare(study: Study, ended: Sequence[PlannedRun], state: StudyState) -> None:
    opened = open_runs([state.run_dir(run) for run in ended])
    groups = {run.group: [one for one, of in zip(opened, ended, strict=True) if of.group == run.group]
              for run in ended}  # fmt: skip
    baseline = study.baseline if study.baseline in groups else None
    path, comparison = write_comparison(groups, state.out, baseline)
    for line in summary_lines(comparison):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"report: {path}\n")


def _show_plan(study: Study, runs: Sequence[PlannedRun], out: Path, jobs: int) -> None:
    state = StudyState(out)
    url = study.service.url or "http://127.0.0.1:PORT"
    groups = len({run.group for run in runs})
    at_once = "one at a time" if jobs == 1 else f"{jobs} at the same time"
    sys.stdout.write(f"{len(runs)} runs in {groups} groups, {at_once}; folder {out}\n")
    if study.service.url is None:
        sys.stdout.write(f"service: {shlex.join(['glassbox', 'serve', *study.service.options])}\n")
    for run in runs:
        folder = state.run_dir(run)
        started = (folder / "config.json").is_file()
        end = end_of(folder)
        status = end.status if end else "to resume" if started else "to start"
        command = train_command(run, folder, url, resume=status == "to resume", train=("glassbox", "train"))
        sys.stdout.write(
            f"\n{run.name} ({run.group}): {status}\n  {shlex.join([*launch_words(study), *command])}\n"
        )


def _log(line: str) -> None:
    sys.stdout.write(f"[{time.strftime('%H:%M:%S')}] {line}\n")
    sys.stdout.flush()
