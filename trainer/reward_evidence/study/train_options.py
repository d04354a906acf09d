"""Checks the options of planned runs with the parser of `glassbox train`, before the first run starts.

The command is found by its entry point, as the command line finds it, so this package does not import the trainer.
"""

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from reward_client.cli.command import Command, discover
from reward_evidence.study.errors import StudyError
from reward_evidence.study.planning import PlannedRun
from reward_evidence.study.spec import Study, nearest


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StudyError(message)


def check_options(study: Study, runs: Sequence[PlannedRun], command: Command | None = None) -> None:
    """Raise StudyError naming an unknown setting, with the nearest known one, or one with an invalid value.

    Args:
        study: the study.
        runs: its runs.
        command: the command `train`; that of the installed packages when None.
    """
    train = command or discover()[0].get("train")
    if train is None or train.missing():
        raise StudyError("`glassbox train` is not available: install glassbox-reward[train]")
    parser = _Parser("glassbox train", allow_abbrev=False)
    train.configure(parser)
    known = {name.replace("-", "_") for name in re.findall(r"--([a-z][a-z-]+)", parser.format_usage())}
    for settings in (study.settings, *(arm.settings for arm in study.recipes)):
        for name in settings:
            if name not in known:
                raise StudyError(f"settings.{name}: `glassbox train` has no such option; {nearest(name, known)}")
    for run in runs:
        try:
            parsed = parser.parse_args(list(run.options))
            if raw := getattr(parsed, "raw_flags", None):
                parser.error(f"{raw[0]!r} belongs to no option; set openrlhf_options for OpenRLHF")
        except StudyError as exc:
            raise StudyError(f"the options of {run.name} are invalid: {exc}") from exc
