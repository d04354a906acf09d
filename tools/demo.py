"""Run the whole job on embedded models: reward service, RL training against it, evaluation, report.

    python -m tools.demo [--run-dir runs/NAME] [-- options of glassbox train]

All processes that it starts are stopped at its end. No model hub is contacted.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.console import log
from tools.processes import StartError, reward_service

STOP_TRAINER_S = 90


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status of `process`; when this process is interrupted, stop it with time to clean up."""
    try:
        return process.wait()
    except BaseException:
        if process.poll() is None:
            process.terminate()  # Ctrl-C has reached it already, SIGTERM has not
        process.wait(STOP_TRAINER_S)
        raise


def run(run_dir: Path, options: list[str]) -> int:
    """Start the service and train against it; the trainer's exit status."""
    log("starting the reward service (all-MiniLM-L6-v2 and the demo gold model)")
    with reward_service(run_dir.parent / f"{run_dir.name}-service.log") as url:
        log(f"the service is ready at {url}; open it in a browser to inspect rewards")
        command = [sys.executable, "-m", "reward_client.cli", "train", "--reward-url", url, "--preset", "demo"]
        return wait_for(subprocess.Popen([*command, "--run-dir", str(run_dir), *options]))


def main() -> int:
    """Run the demo; the trainer's exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", default=f"runs/demo-{time.strftime('%Y%m%d-%H%M%S')}")
    parser.add_argument("trainer_options", nargs="*", metavar="-- OPTIONS", help="options of glassbox train")
    arguments = parser.parse_args()
    started = time.monotonic()
    run_dir = Path(arguments.run_dir)
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        status = run(run_dir, arguments.trainer_options)
    except StartError as exc:
        sys.exit(f"the reward service did not start: {exc}")
    minutes = (time.monotonic() - started) / 60
    log(f"done in {minutes:.0f} min; report: {run_dir / 'report.html'}" if status == 0 else f"failed ({status})")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
