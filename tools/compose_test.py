"""What docs/deploy.md promises of `docker compose up`, done and looked at: python -m tools.compose_test

    build, build again ── up --wait ── /score on the published port ── keys ── no way out
       ── a real OpenRLHF run in the trainer's container ── Prometheus scrapes it ── hardening
       ── restart, and kill, under load ── two replicas ── one of two is killed ── down

One line a check, with its time. Whatever happens, everything that was started is taken down again; when a check
fails, the containers' logs are printed first. An engine is started when none answers and `shared/tools/docker-up`
is there.

Variables: TORCH_INDEX_URL and BASE_IMAGE, as in .env.example.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import httpx

from reward_client import Item
from tools.compose_stack import COMMAND_S, PROJECT, ROOT, CheckError, Stack, engine, require, run, say
from tools.harden_check import EXCEPTIONS, check_project
from tools.held_load import Load

RUN = "two-steps"
LIMIT_S = 25 * 60
"""All of it, cold, must fit; then it is stopped."""
BUILD_S, UP_S, TRAIN_S = 15 * 60, 240, 10 * 60
IMAGES = ("service", "proxy", "trainer", "prometheus")
TRAINING = (
    "--preset demo --steps 2 --save-every 1 --samples-per-prompt 2 --micro-batch-size 2 --max-new-tokens 48 "
    f"--gold --run-dir runs/{RUN}"
)
"""Two steps of the embedded policy, 16 rollouts: too short to learn much, and real."""


# The checks, in order ----------------------------------------------------------------------------------------


def build(stack: Stack) -> str:
    """Every image of ours builds."""
    for image in IMAGES:  # one after the other: they share a machine and a cache
        started = time.monotonic()
        stack.compose("build", image, timeout=BUILD_S)
        say(f"      {image} in {time.monotonic() - started:.0f} s")
    return "from whatever the build cache had"


def build_again(stack: Stack) -> str:
    """Nothing changed, so nothing is built."""
    stack.compose("build", *IMAGES, timeout=COMMAND_S)
    base = os.environ.get("BASE_IMAGE", "python:3.11-slim")
    sizes = {image: _size_mb(f"glassbox-{image}:test") for image in IMAGES}
    shown = ", ".join(f"{image} {size} MB" for image, size in sizes.items())
    try:
        of_base = f"; of each {_size_mb(base)} MB are the base image {base}"
    except CheckError:  # an engine that builds without keeping the base image
        of_base = ""
    return f"warm; sizes: {shown}{of_base}"


def _size_mb(image: str) -> int:
    return int(run("docker", "image", "inspect", "-f", "{{.Size}}", image)) // 1_000_000


def up(stack: Stack) -> str:
    """Service and proxy start, and are healthy."""
    stack.compose("up", "--wait", "--wait-timeout", str(UP_S), "service", "proxy", timeout=UP_S + 30)
    return "service and proxy are healthy"


def scores(stack: Stack) -> str:
    """The published port scores, with the gold model too."""
    with stack.client() as client:
        reply = client.score(
            [Item(prompt="Why is the sky blue?", response="Air scatters blue light most.")], gold=True
        )
    reward, gold = reply.rewards[0], reply.results[0].gold_reward
    require(reward is not None and gold is not None, f"no reward or gold reward: {reply}")
    return f"reward {reward:.4f}, gold {gold:.3f}"


def keys(stack: Stack) -> str:
    """Without a key there is no reward; health needs none."""
    body = {"items": [{"prompt": "Hi?", "response": "Hi."}]}
    require(httpx.get(f"{stack.url}/readyz", timeout=30).is_success, "GET /readyz is not open")
    status = httpx.post(f"{stack.url}/score", json=body, timeout=30).status_code
    require(status == 401, f"POST /score without a key: {status}, not 401")
    bearer = {"authorization": f"Bearer {stack.key}"}
    with_key = httpx.post(f"{stack.url}/score", json=body, headers=bearer, timeout=30).status_code
    require(with_key == 200, f"POST /score with the key: {with_key}")
    return "401 without a key, 200 with it"


def no_way_out(stack: Stack) -> str:
    """The service reaches nothing outside its network."""
    code = (
        "import socket\n"
        "try: socket.create_connection(('1.1.1.1', 443), 3)\n"
        "except OSError as exc: print('closed:', exc)\n"
        "else: print('open')"
    )
    said = stack.compose("exec", "-T", "service", "python", "-c", code).strip()
    require(said.startswith("closed"), f"the service reaches 1.1.1.1: {said}")
    return said


def trains(stack: Stack) -> str:
    """The trainer's container trains with the real OpenRLHF through the service, and leaves its report."""
    stack.compose("up", "--detach", "--no-deps", "trainer")
    (container,) = stack.containers("trainer")
    _closed(stack)
    status = run("docker", "wait", container, timeout=TRAIN_S).strip()
    require(status == "0", f"the trainer ended with {status}:\n{run('docker', 'logs', '--tail', '60', container)}")
    folder = stack.runs / RUN
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    require([step["step"] for step in steps] == [1, 2], f"not two steps: {steps}")
    require(all(step["grad_norm"] > 0 for step in steps), f"nothing was learned from: {steps}")
    require((folder / "report.html").stat().st_size > 10_000, "report.html is too small to be one")
    rewards = " → ".join(f"{step['reward']:.3f}" for step in steps)
    return f"{config['rollout_engine']}; reward {rewards}; {folder.relative_to(ROOT)}/report.html"


def _closed(stack: Stack) -> None:
    """Every container that is there, the trainer while it runs."""
    services, problems = check_project(PROJECT, stack.key)
    require(not problems, "not closed:\n  " + "\n  ".join(problems))
    say(f"      closed (user, root, capabilities, limits, secrets, tools): {', '.join(services)}")


def observed(stack: Stack) -> str:
    """Prometheus scrapes every replica and has seen the trainer's rollouts; promtool finds nothing wrong."""
    stack.compose("up", "--wait", "--wait-timeout", "90", "prometheus")
    stack.compose("exec", "-T", "prometheus", "promtool", "check", "config", "/etc/glassbox/prometheus.yml")
    rollouts = _query(stack, 'sum(glassbox_items_total{protocol="openrlhf", outcome="scored"})', at_least=16)
    up_now = _query(stack, 'sum(up{job="glassbox"})', at_least=1)
    ready = _query(stack, 'sum(haproxy_backend_active_servers{proxy="replicas"})', at_least=1)
    groups = httpx.get(f"http://127.0.0.1:{stack.prometheus_port}/api/v1/rules", timeout=10).json()["data"][
        "groups"
    ]
    rules = groups[0]["rules"]
    unhealthy = [rule["name"] for rule in rules if rule["health"] == "err"]
    require(not unhealthy, f"rules that cannot be evaluated: {unhealthy}")
    return f"{up_now:.0f} replica up, {ready:.0f} ready, {rollouts:.0f} rollouts scored, {len(rules)} alert rules"


def _query(stack: Stack, expression: str, at_least: float, timeout_s: float = 60.0) -> float:
    """The value of `expression` once it is `at_least` that; a scrape takes its time."""
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


def restarts(stack: Stack) -> str:
    """A restart under load: nobody loses a reward."""
    return _under_load(stack, lambda _: stack.compose("restart", "service", timeout=UP_S))


def killed(stack: Stack) -> str:
    """The only replica dies under load: nobody loses a reward."""
    return _under_load(stack, kill)


def kill(container: str) -> None:
    """Kill the service's process, as the kernel does when memory is short; the restart policy brings it back."""
    code = (
        "import os, signal; from pathlib import Path\n"
        "ours = [int(p.name) for p in Path('/proc').iterdir() if p.name.isdigit() "
        "and b'reward_service' in (p / 'cmdline').read_bytes() and p.name != '1']\n"
        "[os.kill(pid, signal.SIGKILL) for pid in ours if pid != os.getpid()]"
    )
    try:
        run("docker", "exec", container, "python", "-c", code)
    except CheckError as exc:
        if "(137)" not in str(exc):  # the container may end before this process in it does
            raise


def _state(container: str) -> tuple[str, str]:
    """When it was started, and its health."""
    started, health = run(
        "docker", "inspect", "-f", "{{.State.StartedAt}} {{.State.Health.Status}}", container
    ).split()
    return started, health


def _wait_until_back(container: str, before: str) -> None:
    deadline = time.monotonic() + UP_S
    while True:
        started, health = _state(container)
        if started != before and health == "healthy":
            return
        require(time.monotonic() < deadline, f"{container[:12]} is not back after {UP_S} s: {health}")
        time.sleep(0.5)


def _under_load(stack: Stack, disturb: Callable[[str], object]) -> str:
    container = stack.containers("service")[0]
    with Load(stack.url_with_key) as load:
        load.wait_for(20)
        before = _state(container)[0]
        disturb(container)
        _wait_until_back(container, before)
        load.wait_for(40)
    require(not load.lost, f"{load.summary()}; the first: {load.lost[:3]}")
    return load.summary()


def scaled(stack: Stack) -> str:
    """Two replicas share the load."""
    arguments = ("up", "--wait", "--wait-timeout", str(UP_S), "--scale", "service=2", "service", "proxy")
    stack.compose(*arguments, timeout=UP_S + 30)
    require(len(stack.containers("service")) == 2, "there are not two replicas")
    _query(stack, 'sum(haproxy_backend_active_servers{proxy="replicas"})', at_least=2)
    before = _scored_by_replica(stack)
    with Load(stack.url_with_key) as load:
        load.wait_for(200)
    require(not load.lost, load.summary())
    deadline, shares = time.monotonic() + 30, [0.0]
    while time.monotonic() < deadline and (len(shares) < 2 or min(shares) <= 0):
        time.sleep(1)
        shares = [count - before.get(name, 0) for name, count in _scored_by_replica(stack).items()]
    shares = sorted(shares)[-2:]
    require(len(shares) == 2 and min(shares) > 0, f"one replica did nothing: {shares}")
    return f"{load.summary()}; requests by replica: {', '.join(f'{share:.0f}' for share in shares)}"


def _scored_by_replica(stack: Stack) -> dict[str, float]:
    url = f"http://127.0.0.1:{stack.prometheus_port}/api/v1/query"
    expression = 'sum by (instance) (glassbox_requests_total{route=~"/score|/r/.*"} and on (instance) up == 1)'
    result = httpx.get(url, params={"query": expression}, timeout=10).json()["data"]["result"]
    return {row["metric"]["instance"]: float(row["value"][1]) for row in result}


def one_of_two_killed(stack: Stack) -> str:
    """One of two replicas dies under load: the other takes over."""
    return _under_load(stack, kill)


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
    """Do every check; print the containers' logs when one fails."""
    for check in CHECKS:
        started = time.monotonic()
        try:
            result = check(stack)
        except Exception:
            say(f"FAIL  {check.__name__} ({time.monotonic() - started:.0f} s)")
            _show_logs(stack)
            raise
        say(f"ok    {check.__name__.replace('_', ' ')} ({time.monotonic() - started:.0f} s): {result}")


def _show_logs(stack: Stack) -> None:
    for arguments in (("ps", "-a"), ("logs", "--no-color", "--tail", "60")):
        try:
            say(stack.compose(*arguments))
        except CheckError as exc:
            say(f"(no logs: {exc})")


def _too_long(_: int, __: FrameType | None) -> None:
    raise CheckError(f"not done in {LIMIT_S // 60} minutes")


def main() -> int:
    """Everything; 0 when every check passed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LIMIT_S)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, engine():
        stack = Stack(Path(folder), TRAINING)
        try:
            stack.down()
            check_all(stack)
        except CheckError as exc:
            say(f"failed: {exc}")
            return 1
        finally:
            signal.alarm(0)  # cleaning up has its own limits
            stack.down()
    for (service, item), reason in EXCEPTIONS.items():
        say(f"      exception ({service}, {item}): {reason}")
    say(
        f"all {len(CHECKS)} checks passed in {(time.monotonic() - started) / 60:.1f} min; everything is taken down"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
