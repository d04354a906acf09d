"""HAProxy in front of one service, with the configuration that ships: docker/proxy/haproxy.cfg.

    shipped configuration ── addresses of compose ──▶ addresses of the loopback ── everything else stays

Each line that names an address of compose is replaced, exactly once; a configuration that has other ones than are
known here is refused, so that what is tested cannot drift from what ships.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from load.service import SoakError
from tools.demo import free_port

__all__ = ["SHIPPED", "front", "haproxy", "localised"]

SHIPPED = Path(__file__).parents[1] / "docker" / "proxy" / "haproxy.cfg"
_START_S = 30.0
_STOP_S = 30.0
_RESOLVED = " resolvers containers init-addr none"


def haproxy() -> str | None:
    """Where HAProxy is, when it is installed."""
    return shutil.which("haproxy")


def localised(shipped: str, port: int, operations_port: int, service_port: int) -> str:
    """The configuration with compose's addresses replaced by those of the loopback.

    Args:
        shipped: the configuration as it ships.
        port: to listen on.
        operations_port: for health and metrics.
        service_port: of the one service behind it.

    Raises:
        SoakError: a line to be replaced is not there exactly once, or an address of compose is left.
    """
    text = _without_section(shipped, "resolvers containers")
    text = _replaced(text, "bind :8000", f"bind 127.0.0.1:{port}")
    text = _replaced(text, "bind :8404", f"bind 127.0.0.1:{operations_port}")
    server = f"127.0.0.1:{service_port}"
    text = _replaced(text, "server-template ready 1-16 service:8000", f"server ready {server}")
    text = _replaced(text, "server-template held 1-16 replicas:8000", f"server held {server}")
    text = text.replace(_RESOLVED, "")
    left = [
        line for line in _directives(text) if re.search(r"server-template|resolvers|:8000|:8404|init-addr", line)
    ]
    if left:
        raise SoakError(f"{SHIPPED.name} has addresses that the soak test does not know: {left}")
    return text


def _replaced(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise SoakError(f"{SHIPPED.name} has {old!r} {text.count(old)} times, expected once")
    return text.replace(old, new)


def _without_section(text: str, heading: str) -> str:
    """`text` without the lines from `heading` to the next line that is not indented."""
    found = re.findall(rf"^{heading}\n(?:[ \t]+.*\n|\n)*", text, re.MULTILINE)
    if len(found) != 1:
        raise SoakError(f"{SHIPPED.name} has {len(found)} sections {heading!r}, expected one")
    return text.replace(found[0], "")


def _directives(text: str) -> list[str]:
    """Lines without comments."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


@contextmanager
def front(program: str, folder: Path, service_port: int) -> Iterator[str]:
    """HAProxy over the service on `service_port`; its URL."""
    port, operations_port = free_port(), free_port()
    path = folder / "haproxy.cfg"
    shipped = SHIPPED.read_text(encoding="utf-8")
    path.write_text(localised(shipped, port, operations_port, service_port), encoding="utf-8")
    with (folder / "haproxy.log").open("wb") as log:
        command = [program, "-W", "-db", "-f", str(path)]  # as its image starts it
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_up(process, f"http://127.0.0.1:{operations_port}/healthz", folder / "haproxy.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.TransportError as exc:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SoakError(f"HAProxy did not start: {log.read_text(encoding='utf-8')[-1000:]}") from exc
        time.sleep(0.1)
