"""Test the compose stack as documented: python -m tools.compose_test

    build, build again ── up --wait ── /score on the published port ── keys ── no way out
       ── a real OpenRLHF run in the trainer's container ── Prometheus scrapes it ── hardening
       ── restart, and kill, under load ── two replicas ── one of two is killed ── down

It prints one line per check, with its duration. All containers are removed at the end; when a check fails, their
logs are printed first. A Docker engine is started when none is running and `shared/tools/docker-up` exists.

Variables: TORCH_INDEX_URL and BASE_IMAGE, as in .env.example.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from tools.compose_checks import RUN, build, build_again, keys, no_way_out, observed, scores, trains, up
from tools.compose_restarts import killed, one_of_two_killed, restarts, scaled
from tools.compose_stack import CheckError, Stack, engine
from tools.console import log
from tools.harden_check import EXCEPTIONS

LIMIT_S = 25 * 60
"""Time limit of the whole test, with an empty build cache."""
TRAINING = (
    "--preset demo --steps 2 --save-every 1 --samples-per-prompt 2 --micro-batch-size 2 --max-new-tokens 48 "
    f"--gold --run-dir runs/{RUN}"
)
"""Two steps of the embedded policy with 16 rollouts: a real run, too short to learn much."""

CHECKS: Sequence[Callable[[Stack], str]] = (
    build,
    build_again,
    up,
    scores,
    keys,
    no_way_out,
    trains,
    observed,
    restarts,
    killed,
    scaled,
    one_of_two_killed,
)


def check_all(stack: Stack) -> None:
    """Run every check in order; print the containers' logs when one fails."""
    for check in CHECKS:
        started = time.monotonic()
        try:
            result = check(stack)
        except Exception:
            log(f"FAIL  {check.__name__} ({time.monotonic() - started:.0f} s)")
            _show_logs(stack)
            raise
        log(f"ok    {check.__name__.replace('_', ' ')} ({time.monotonic() - started:.0f} s): {result}")


def _show_logs(stack: Stack) -> None:
    for arguments in (("ps", "-a"), ("logs", "--no-color", "--tail", "60")):
        try:
            log(stack.compose(*arguments))
        except CheckError as exc:
            log(f"(no logs: {exc})")


def _time_out(_: int, __: FrameType | None) -> None:
    raise CheckError(f"not finished within {LIMIT_S // 60} minutes")


def main() -> int:
    """Run the test; 0 when every check passed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, _time_out)
    signal.alarm(LIMIT_S)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, engine():
        stack = Stack(Path(folder), TRAINING)
        try:
            stack.down()
            check_all(stack)
        except CheckError as exc:
            log(f"failed: {exc}")
            return 1
        finally:
            signal.alarm(0)  # the clean-up has its own limits
            stack.down()
    for (service, item), reason in EXCEPTIONS.items():
        log(f"      exception ({service}, {item}): {reason}")
    log(f"all {len(CHECKS)} checks passed in {(time.monotonic() - started) / 60:.1f} min; the stack is removed")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
