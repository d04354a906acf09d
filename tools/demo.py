"""The main job on embedded models, end to end: service up, a real RL run against it, evaluation, a report.

    python tools/demo.py [--run-dir runs/NAME] [-- options of trainer/run.py]

Everything it starts it also stops, whatever happens in between. No model hub is asked for anything.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
START_S = 180
STOP_S = 20
STOP_TRAINER_S = 90


def say(line: str) -> None:
    """One line for the person who watches."""
    sys.stdout.write(f"[{time.strftime('%H:%M:%S')}] {line}\n")
    sys.stdout.flush()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def service(log: Path, *options: str) -> Iterator[str]:
    """The reward service as a child process, ready to score; its URL."""
    port = free_port()
    command = [sys.executable, "-m", "reward_service", "--port", str(port), "--log-level", "warning", *options]
    with log.open("w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", child, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()


def wait_until_ready(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the service can score; exit with its own words when it cannot."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            answer = httpx.get(f"{url}/readyz", timeout=15.0)
            if answer.is_success:
                return
            cause = answer.text
        except httpx.TransportError as exc:
            cause = str(exc)
        if child.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the reward service did not start: {cause}\n{log.read_text()[-2000:]}")
        time.sleep(0.5)


def wait_for(child: subprocess.Popen[bytes]) -> int:
    """The child's exit status; when we are told to stop, it gets the time that its own clean-up takes."""
    try:
        return child.wait()
    except BaseException:
        if child.poll() is None:
            child.terminate()  # a Ctrl-C has reached it already, a SIGTERM has not
        child.wait(STOP_TRAINER_S)
        raise


def main() -> int:
    """Run the demo; the trainer's exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", default=f"runs/demo-{time.strftime('%Y%m%d-%H%M%S')}")
    parser.add_argument("trainer_options", nargs="*", metavar="-- OPTIONS", help="options of trainer/run.py")
    arguments = parser.parse_args()
    started = time.monotonic()
    run_dir = Path(arguments.run_dir)
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    say("starting the reward service (all-MiniLM-L6-v2 and the demo gold model)")
    with service(run_dir.parent / f"{run_dir.name}-service.log") as url:
        say(f"the service is ready at {url}; open it in a browser to see rewards taken apart")
        command = [sys.executable, str(ROOT / "trainer/run.py"), "--reward-url", url, "--preset", "demo"]
        command += ["--run-dir", str(run_dir), *arguments.trainer_options]
        status = wait_for(subprocess.Popen(command))
    minutes = (time.monotonic() - started) / 60
    say(f"done in {minutes:.0f} min; report: {run_dir / 'report.html'}" if status == 0 else f"failed ({status})")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
