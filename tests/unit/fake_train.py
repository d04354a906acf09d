"""Stands in for `glassbox train` in tests of studies: copies an evaluated run into its run directory.

Environment: FAKE_RUN (the evaluated run), FAKE_CALLS (file for the command lines), FAKE_FAIL (text in the name of
runs that fail), FAKE_HANG (folder with a FIFO for each run: training writes there once it has begun, and does not
end).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

RUN_DIR = Path(sys.argv[sys.argv.index("--run-dir") + 1])


def stopped(_: int, __: FrameType | None) -> None:
    """Write what a trainer saves when it is stopped."""
    (RUN_DIR / "stopped").touch()
    sys.exit(130)


def main() -> None:
    """Behave as the environment requests."""
    with Path(os.environ["FAKE_CALLS"]).open("a", encoding="utf-8") as calls:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        calls.write(json.dumps({"name": RUN_DIR.name, "argv": sys.argv[1:], "devices": visible}) + "\n")
    if (failing := os.environ.get("FAKE_FAIL")) and failing in RUN_DIR.name:
        sys.exit("error: the disk is full")
    RUN_DIR.mkdir(parents=True, exist_ok=True)
    source = Path(os.environ["FAKE_RUN"])
    shutil.copy(source / "config.json", RUN_DIR)
    if folder := os.environ.get("FAKE_HANG"):
        signal.signal(signal.SIGTERM, stopped)
        (Path(folder) / RUN_DIR.name).write_text("begun", encoding="utf-8")
        signal.pause()
    shutil.copytree(source, RUN_DIR, dirs_exist_ok=True)


main()
