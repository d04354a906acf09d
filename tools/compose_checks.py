"""Functional checks of the compose stack: images, scores, keys, isolation, training, metrics.

Each check raises CheckError when it fails, and otherwise returns one line for the report.
"""

from __future__ import annotations

import json
import os
import time

import httpx

from reward_client import Item
from tools.compose_stack import COMMAND_S, PROJECT, ROOT, CheckError, Stack, require, run
from tools.console import log
from tools.harden_check import check_project

RUN = "two-steps"
BUILD_S, UP_S, TRAIN_S = 15 * 60, 240, 10 * 60
IMAGES = ("service", "proxy", "trainer", "prometheus")


def build(stack: Stack) -> str:
    """All images build."""
    for image in IMAGES:  # in sequence: they share a machine and a cache
        started = time.monotonic()
        stack.compose("build", image, timeout=BUILD_S)
        log(f"      {image} in {time.monotonic() - started:.0f} s")
    return "with the build cache as it was"


def build_again(stack: Stack) -> str:
    """Without a change, all layers come from the cache."""
    stack.compose("build", *IMAGES, timeout=COMMAND_S)
    base = os.environ.get("BASE_IMAGE", "python:3.11-slim")
    sizes = {image: _size_mb(f"glassbox-{image}:test") for image in IMAGES}
    shown = ", ".join(f"{image} {size} MB" for image, size in sizes.items())
    try:
        of_base = f"; each includes {_size_mb(base)} MB of the base image {base}"
    except CheckError:  # an engine that builds without keeping the base image
        of_base = ""
    return f"warm; sizes: {shown}{of_base}"


def _size_mb(image: str) -> int:
    return int(run("docker", "image", "inspect", "-f", "{{.Size}}", image)) // 1_000_000


def up(stack: Stack) -> str:
    """Service and proxy start and become healthy."""
    stack.compose("up", "--wait", "--wait-timeout", str(UP_S), "service", "proxy", timeout=UP_S + 30)
    return "service and proxy are healthy"


def scores(stack: Stack) -> str:
    """The published port scores, with the gold model as well."""
    with stack.client() as client:
        reply = client.score(
            [Item(prompt="Why is the sky blue?", response="Air scatters blue light most.")], gold=True
        )
    reward, gold = reply.rewards[0], reply.results[0].gold_reward
    require(reward is not None and gold is not None, f"no reward or gold reward: {reply}")
    return f"reward {reward:.4f}, gold {gold:.3f}"


def keys(stack: Stack) -> str:
    """Scoring needs a key, the readiness check does not."""
    body = {"items": [{"prompt": "Hi?", "response": "Hi."}]}
    require(httpx.get(f"{stack.url}/readyz", timeout=30).is_success, "GET /readyz needs a key")
    status = httpx.post(f"{stack.url}/score", json=body, timeout=30).status_code
    require(status == 401, f"POST /score without a key: {status}, not 401")
    bearer = {"authorization": f"Bearer {stack.key}"}
    with_key = httpx.post(f"{stack.url}/score", json=body, headers=bearer, timeout=30).status_code
    require(with_key == 200, f"POST /score with the key: {with_key}")
    return "401 without a key, 200 with it"


def no_way_out(stack: Stack) -> str:
    """The service has no connection outside its network."""
    code = (
        "import socket\n"
        "try: socket.create_connection(('1.1.1.1', 443), 3)\n"
        "except OSError as exc: print('closed:', exc)\n"
        "else: print('open')"
    )
    output = stack.compose("exec", "-T", "service", "python", "-c", code).strip()
    require(output.startswith("closed"), f"the service reaches 1.1.1.1: {output}")
    return output


def trains(stack: Stack) -> str:
    """The trainer's container trains with the real OpenRLHF against the service, and writes its report."""
    stack.compose("up", "--detach", "--no-deps", "trainer")
    (container,) = stack.containers("trainer")
    _check_hardening(stack)
    status = run("docker", "wait", container, timeout=TRAIN_S).strip()
    require(status == "0", f"the trainer ended with {status}:\n{run('docker', 'logs', '--tail', '60', container)}")
    folder = stack.runs / RUN
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    require([step["step"] for step in steps] == [1, 2], f"not two steps: {steps}")
    require(all(step["grad_norm"] > 0 for step in steps), f"a step without a gradient: {steps}")
    require((folder / "report.html").stat().st_size > 10_000, "report.html is too small to be complete")
    rewards = " → ".join(f"{step['reward']:.3f}" for step in steps)
    return f"{config['rollout_engine']}; reward {rewards}; {folder.relative_to(ROOT)}/report.html"


def _check_hardening(stack: Stack) -> None:
    """Check every container, the trainer while it runs."""
    services, problems = check_project(PROJECT, stack.key)
    require(not problems, "not hardened:\n  " + "\n  ".join(problems))
    log(f"      hardened (user, root, capabilities, limits, secrets, tools): {', '.join(services)}")


def observed(stack: Stack) -> str:
    """Prometheus scrapes every replica and counted the trainer's rollouts; promtool accepts the configuration."""
    stack.compose("up", "--wait", "--wait-timeout", "90", "prometheus")
    stack.compose("exec", "-T", "prometheus", "promtool", "check", "config", "/etc/glassbox/prometheus.yml")
    rollouts = query(stack, 'sum(glassbox_items_total{protocol="openrlhf", outcome="scored"})', at_least=16)
    up_now = query(stack, 'sum(up{job="glassbox"})', at_least=1)
    ready = query(stack, 'sum(haproxy_backend_active_servers{proxy="replicas"})', at_least=1)
    groups = httpx.get(f"http://127.0.0.1:{stack.prometheus_port}/api/v1/rules", timeout=10).json()["data"][
        "groups"
    ]
    rules = groups[0]["rules"]
    unhealthy = [rule["name"] for rule in rules if rule["health"] == "err"]
    require(not unhealthy, f"rules that cannot be evaluated: {unhealthy}")
    return f"{up_now:.0f} replica up, {ready:.0f} ready, {rollouts:.0f} rollouts scored, {len(rules)} alert rules"


def query(stack: Stack, expression: str, at_least: float, timeout_s: float = 60.0) -> float:
    """The value of `expression` once it is `at_least` this large, which takes some scrapes."""
    url, deadline, value = (
        f"http://127.0.0.1:{stack.prometheus_port}/api/v1/query",
        time.monotonic() + timeout_s,
        None,
    )
    while time.monotonic() < deadline:
        result = httpx.get(url, params={"query": expression}, timeout=10).json()["data"]["result"]
        value = float(result[0]["value"][1]) if result else None
        if value is not None and value >= at_least:
            return value
        time.sleep(1)
    raise CheckError(f"Prometheus: {expression} is {value}, expected at least {at_least}")
