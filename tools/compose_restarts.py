"""Checks of the compose stack under load: restart, kill, two replicas, one of two killed."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from tools.compose_checks import UP_S, query
from tools.compose_stack import CheckError, Stack, require, run
from tools.load_clients import ContainerClients


def restarts(stack: Stack) -> str:
    """No reward is lost when the service restarts under load."""
    return _under_load(stack, lambda _: stack.compose("restart", "service", timeout=UP_S))


def killed(stack: Stack) -> str:
    """No reward is lost when the only replica is killed under load."""
    return _under_load(stack, kill)


def kill(container: str) -> None:
    """Kill the service's process, as the kernel does when memory is short; the restart policy starts it again."""
    code = (
        "import os, signal; from pathlib import Path\n"
        "ours = [int(p.name) for p in Path('/proc').iterdir() if p.name.isdigit() "
        "and b'reward_service' in (p / 'cmdline').read_bytes() and p.name != '1']\n"
        "[os.kill(pid, signal.SIGKILL) for pid in ours if pid != os.getpid()]"
    )
    try:
        run("docker", "exec", container, "python", "-c", code)
    except CheckError as exc:
        if "(137)" not in str(exc):  # the container may end before the command in it
            raise


def _state(container: str) -> tuple[str, str]:
    """Start time and health."""
    started, health = run(
        "docker", "inspect", "-f", "{{.State.StartedAt}} {{.State.Health.Status}}", container
    ).split()
    return started, health


def _wait_until_restarted(container: str, before: str) -> None:
    deadline = time.monotonic() + UP_S
    while True:
        started, health = _state(container)
        if started != before and health == "healthy":
            return
        require(time.monotonic() < deadline, f"{container[:12]} is not healthy after {UP_S} s: {health}")
        time.sleep(0.5)


def _under_load(stack: Stack, disturb: Callable[[str], object]) -> str:
    container = stack.containers("service")[0]
    with ContainerClients(stack.url_with_key) as clients:
        clients.wait_for(20)
        before = _state(container)[0]
        disturb(container)
        _wait_until_restarted(container, before)
        clients.wait_for(40)
    require(not clients.lost, f"{clients.summary()}; the first: {clients.lost[:3]}")
    return clients.summary()


def scaled(stack: Stack) -> str:
    """Two replicas share the load."""
    arguments = ("up", "--wait", "--wait-timeout", str(UP_S), "--scale", "service=2", "service", "proxy")
    stack.compose(*arguments, timeout=UP_S + 30)
    require(len(stack.containers("service")) == 2, "two replicas were expected")
    query(stack, 'sum(haproxy_backend_active_servers{proxy="replicas"})', at_least=2)
    before = _scored_by_replica(stack)
    with ContainerClients(stack.url_with_key) as clients:
        clients.wait_for(200)
    require(not clients.lost, clients.summary())
    deadline, shares = time.monotonic() + 30, [0.0]
    while time.monotonic() < deadline and (len(shares) < 2 or min(shares) <= 0):
        time.sleep(1)
        shares = [count - before.get(name, 0) for name, count in _scored_by_replica(stack).items()]
    shares = sorted(shares)[-2:]
    require(len(shares) == 2 and min(shares) > 0, f"one replica served no request: {shares}")
    return f"{clients.summary()}; requests by replica: {', '.join(f'{share:.0f}' for share in shares)}"


def _scored_by_replica(stack: Stack) -> dict[str, float]:
    url = f"http://127.0.0.1:{stack.prometheus_port}/api/v1/query"
    expression = 'sum by (instance) (glassbox_requests_total{route=~"/score|/r/.*"} and on (instance) up == 1)'
    result = httpx.get(url, params={"query": expression}, timeout=10).json()["data"]["result"]
    return {row["metric"]["instance"]: float(row["value"][1]) for row in result}


def one_of_two_killed(stack: Stack) -> str:
    """No reward is lost when one of two replicas is killed under load."""
    return _under_load(stack, kill)
