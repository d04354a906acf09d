"""HAProxy in front of one service, with the configuration that ships: docker/proxy/haproxy.cfg.

    shipped configuration ── addresses of compose ──▶ addresses of the loopback ── everything else is unchanged

Each line with an address of compose is replaced exactly once. A configuration with other addresses is rejected, so
that the tested configuration cannot differ from the one that ships.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from load.service import ScenarioError
from reward_client.network import free_port
from tools.processes import server

__all__ = ["SHIPPED", "find_haproxy", "loopback_config", "running_proxy"]

SHIPPED = Path(__file__).parents[1] / "docker" / "proxy" / "haproxy.cfg"
_RESOLVED = " resolvers containers init-addr none"


def find_haproxy() -> str | None:
    """The path of HAProxy, when it is installed."""
    return shutil.which("haproxy")


def loopback_config(shipped: str, port: int, operations_port: int, service_port: int) -> str:
    """Replace compose's addresses in the configuration with addresses of the loopback.

    Args:
        shipped: the configuration that ships.
        port: where the proxy listens.
        operations_port: where it serves health and metrics.
        service_port: port of the one service behind it.

    Raises:
        ScenarioError: a line to replace does not occur exactly once, or an address of compose remains.
    """
    text = _without_section(shipped, "resolvers containers")
    text = _replace_once(text, "bind :8000", f"bind 127.0.0.1:{port}")
    text = _replace_once(text, "bind :8404", f"bind 127.0.0.1:{operations_port}")
    address = f"127.0.0.1:{service_port}"
    text = _replace_once(text, "server-template ready 1-16 service:8000", f"server ready {address}")
    text = _replace_once(text, "server-template held 1-16 replicas:8000", f"server held {address}")
    text = text.replace(_RESOLVED, "")
    addresses = re.compile(r"server-template|resolvers|:8000|:8404|init-addr")
    remaining = [line for line in _directives(text) if addresses.search(line)]
    if remaining:
        raise ScenarioError(f"{SHIPPED.name} has addresses that load/proxy.py does not know: {remaining}")
    return text


def _replace_once(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise ScenarioError(f"{SHIPPED.name} has {old!r} {text.count(old)} times, expected once")
    return text.replace(old, new)


def _without_section(text: str, heading: str) -> str:
    """`text` without the lines from `heading` to the next line that is not indented."""
    found = re.findall(rf"^{heading}\n(?:[ \t]+.*\n|\n)*", text, re.MULTILINE)
    if len(found) != 1:
        raise ScenarioError(f"{SHIPPED.name} has {len(found)} sections {heading!r}, expected one")
    return text.replace(found[0], "")


def _directives(text: str) -> list[str]:
    """Lines without comments."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


@contextmanager
def running_proxy(program: str, folder: Path, service_port: int) -> Iterator[str]:
    """Run HAProxy in front of the service on `service_port`; its URL. Raises StartError."""
    port, operations_port = free_port(), free_port()
    path = folder / "haproxy.cfg"
    shipped = SHIPPED.read_text(encoding="utf-8")
    path.write_text(loopback_config(shipped, port, operations_port, service_port), encoding="utf-8")
    command = [program, "-W", "-db", "-f", str(path)]  # as in its image
    with server(command, f"http://127.0.0.1:{operations_port}/healthz", folder / "haproxy.log"):
        yield f"http://127.0.0.1:{port}"
