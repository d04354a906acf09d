"""The service is killed repeatedly under load: no reward is lost, wrong, zero, or duplicated.

    serving process: SIGKILL and SIGTERM ── its supervisor starts another on the same socket
    whole service behind the proxy: SIGKILL to all its processes, SIGTERM to the first, as `docker stop` does
                                  ── started again on the same port, behind HAProxy as it ships

Clients: OpenRLHF's own code, one rollout at a time, and RewardClient with batches; all in closed loops, so that
each has a request in flight at every kill. The service caches no vectors, so that every reward is computed.
"""

from __future__ import annotations

import logging
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice

import httpx
import psutil

from load.exchanges import Exchange, generate
from load.openrlhf_client import RolloutClient, count_tries
from load.plan import Plan
from load.proxy import find_haproxy, running_proxy
from load.report import Check, Figure, Findings
from load.service import ScenarioError, Service
from reward_client import RetryPolicy, RewardClient, RewardError
from tools.console import log
from tools.load_clients import Call, CallResult, LoadClients, reward_difference

__all__ = ["run"]

_BUDGET_S = 180.0
"""Retry budget of RewardClient; timeout of one try of OpenRLHF."""
_ROLLOUTS, _BATCHES = 8, 4
"""Clients of each kind."""
_BATCH_ITEMS = 16
_POOL = 256
"""Different exchanges, whose rewards are requested before the first kill."""
_MIN_REWARD = 0.01
"""Rewards of the pool are larger, so that a wrong zero is noticed."""
_RESULTS_BETWEEN = 60
"""Results between a restart and the next kill."""
_TERMINATE_S = 60.0
"""Seconds within which a process must end after SIGTERM."""
_SPREAD_S = 1.0
"""Random delay of a kill, so that kills meet requests in all states."""
_OPTIONS = ("--gold", "none", "--cache-bytes", "0")
_KINDS = ("OpenRLHF", "RewardClient")
_PROXIED = "service behind the proxy"

Kill = Callable[[Service, signal.Signals], tuple[float, bool]]
"""Kills; returns the seconds until the service was ready again, and whether it ended after SIGTERM."""


@dataclass(frozen=True)
class _Kill:
    """One kill and its effects."""

    signal: signal.Signals
    ready_s: float
    """Until the service was ready again."""
    retries: int
    """Retries of the clients from the kill until the next results."""
    answered: frozenset[str]
    """Kinds of clients that got a right result after it."""
    ended: bool
    """Whether all processes ended within a minute of SIGTERM."""


class BatchClient:
    """Scores one batch after the other with RewardClient.

    Args:
        url: of the service.
        batches: exchanges and their rewards, used in turn.
    """

    def __init__(self, url: str, batches: list[list[tuple[Exchange, float]]]) -> None:
        self._transport = _CountingTransport()
        self._client = RewardClient(url, retry=RetryPolicy(budget_s=_BUDGET_S), transport=self._transport)
        self._batches = batches
        self._turn = 0

    def __call__(self) -> CallResult:
        batch = self._batches[self._turn % len(self._batches)]
        self._turn += 1
        requests, started = self._transport.requests, time.monotonic()
        try:
            reply = self._client.score([exchange.item for exchange, _ in batch], deadline_s=_BUDGET_S)
            problem = reward_difference([expected for _, expected in batch], reply.rewards)
        except RewardError as exc:
            problem = f"{type(exc).__name__}: {exc}"
        tries = self._transport.requests - requests
        return CallResult("RewardClient", time.monotonic() - started, tries, problem)

    def close(self) -> None:
        self._client.close()


class _CountingTransport(httpx.HTTPTransport):
    """Counts requests, which gives the number of tries of a call."""

    def __init__(self) -> None:
        super().__init__(limits=httpx.Limits(keepalive_expiry=4.0))  # as in the client
        self.requests = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return super().handle_request(request)


def run(plan: Plan) -> list[Findings]:
    """Kill the serving process, then the whole service behind the proxy."""
    count_tries()
    logging.getLogger("reward_client").setLevel(logging.ERROR)  # every kill opens circuits, which it warns about
    return [_kill_serving_process(plan), _kill_behind_proxy(plan)]


def _kill_serving_process(plan: Plan) -> Findings:
    with Service(plan.folder / "serving.log", *_OPTIONS) as service:
        return _scenario("serving process", plan, service, service.url, _kill_serving)


def _kill_behind_proxy(plan: Plan) -> Findings:
    program = find_haproxy()
    if program is None:
        reason = "haproxy is not on the PATH (Debian: apt-get install haproxy)"
        return Findings(f"kills: {_PROXIED}", _done(_PROXIED, plan), not_run=reason)
    with (
        Service(plan.folder / "proxied.log", *_OPTIONS) as service,
        running_proxy(program, plan.folder, service.port) as url,
    ):
        return _scenario(_PROXIED, plan, service, url, _kill_all)


def _kill_serving(service: Service, number: signal.Signals) -> tuple[float, bool]:
    began, process = time.monotonic(), service.serving_process()
    process.send_signal(number)
    try:
        process.wait(_TERMINATE_S)
        ended = True
    except psutil.TimeoutExpired:
        ended = False
    service.wait_until_ready(other_than=process)
    return time.monotonic() - began, ended


def _kill_all(service: Service, number: signal.Signals) -> tuple[float, bool]:
    began, ended = time.monotonic(), True
    if number is signal.SIGKILL:
        service.kill_all()
    else:
        ended = service.stop()
    service.start()
    service.wait_until_ready()
    return time.monotonic() - began, ended


def _scenario(target: str, plan: Plan, service: Service, url: str, kill: Kill) -> Findings:
    """Kill `target` under load."""
    kills: list[_Kill] = []
    rng = random.Random(target)
    with _load_clients(url, _scored_pool(url)) as clients:
        clients.wait_for(_RESULTS_BETWEEN)
        for number in (signal.SIGKILL, signal.SIGTERM):
            for count in range(plan.n_kills):
                time.sleep(rng.uniform(0.0, _SPREAD_S))
                before = len(clients.results), clients.n_retries
                ready_s, ended = kill(service, number)
                after = len(clients.results)
                clients.wait_for(_RESULTS_BETWEEN)
                answered = frozenset(result.kind for result in clients.results[after:] if not result.problem)
                kills.append(_Kill(number, ready_s, clients.n_retries - before[1], answered, ended))
                _log_kill(target, count + 1, plan.n_kills, kills[-1], clients, before[0])
    checks = [*_client_checks(clients), *_kill_checks(kills, proxied=url != service.url)]
    return Findings(f"kills: {target}", _done(target, plan), checks, _figures(clients, kills))


def _log_kill(target: str, count: int, n: int, kill: _Kill, clients: LoadClients, n_before: int) -> None:
    log(
        f"{target}: {kill.signal.name} {count}/{n}, ready after {kill.ready_s:.1f} s; "
        f"{len(clients.results) - n_before} results, {kill.retries} retries since, {len(clients.lost)} lost so far"
    )


def _scored_pool(url: str) -> list[tuple[Exchange, float]]:
    """`_POOL` exchanges with rewards above `_MIN_REWARD`. Raises RewardError."""
    exchanges = list(islice(generate("kills"), 2 * _POOL))
    with RewardClient(url) as client:
        rewards = client.score([exchange.item for exchange in exchanges]).rewards
    pairs = zip(exchanges, rewards, strict=True)
    scored = [(exchange, reward) for exchange, reward in pairs if reward is not None and reward > _MIN_REWARD]
    if len(scored) < _POOL:
        raise ScenarioError(f"only {len(scored)} of {len(exchanges)} rewards are above {_MIN_REWARD}")
    return scored[:_POOL]


@contextmanager
def _load_clients(url: str, pool: list[tuple[Exchange, float]]) -> Iterator[LoadClients]:
    """All clients, each starting at another position of the pool."""
    with ExitStack() as stack:
        calls: list[Call] = []
        for number in range(_ROLLOUTS):
            start = number * _POOL // _ROLLOUTS
            calls.append(RolloutClient(f"{url}/r/load-{number}/get_reward", pool[start:] + pool[:start]))
        for number in range(_BATCHES):
            start = number * _POOL // _BATCHES
            turned = pool[start:] + pool[:start]
            batches = [turned[i : i + _BATCH_ITEMS] for i in range(0, len(turned), _BATCH_ITEMS)]
            client = BatchClient(url, batches)
            stack.callback(client.close)
            calls.append(client)
        with LoadClients(calls) as clients:
            yield clients


def _done(target: str, plan: Plan) -> str:
    return (
        f"The {target} gets SIGKILL {plan.n_kills} times, then SIGTERM {plan.n_kills} times, while {_ROLLOUTS} "
        f"clients of OpenRLHF's own code post and {_BATCHES} RewardClients send batches of {_BATCH_ITEMS}."
    )


def _client_checks(clients: LoadClients) -> list[Check]:
    """Whether every call of every client got its rewards."""
    rules = {
        "OpenRLHF": "OpenRLHF: each rollout has one reward, the right one",
        "RewardClient": f"RewardClient: each item has one reward, the right one, within {_BUDGET_S:.0f} s",
    }
    checks = []
    for kind, rule in rules.items():
        results = [result for result in clients.results if result.kind == kind]
        lost = [result.problem for result in results if result.problem]
        checks.append(Check(rule, f"{len(results)} calls, {_counted(lost, 'lost')}", bool(results) and not lost))
    others = [result.problem for result in clients.lost if result.kind not in _KINDS]
    checks.append(Check("every client runs to the end", _counted(others, "did not"), not others))
    return checks


def _counted(problems: Sequence[str | None], label: str) -> str:
    return f"{len(problems)} {label}" + (f"; the first: {problems[0]}" if problems else "")


def _kill_checks(kills: list[_Kill], proxied: bool) -> list[Check]:
    """Whether SIGTERM ended the processes, and SIGKILL interrupted requests."""
    ended = [kill.ended for kill in kills if kill.signal is signal.SIGTERM]
    checks = [Check("SIGTERM ends its target", f"{sum(ended)} of {len(ended)}", all(ended))]
    if not proxied:  # a proxy may retry by itself
        killed = [kill for kill in kills if kill.signal is signal.SIGKILL]
        hit = sum(kill.retries > 0 for kill in killed)
        rule = "each SIGKILL interrupted requests, which the clients retried"
        checks.append(Check(rule, f"{hit} of {len(killed)}", hit == len(killed)))
    return checks


def _figures(clients: LoadClients, kills: list[_Kill]) -> list[Figure]:
    answered = sum(kill.answered >= frozenset(_KINDS) for kill in kills)
    figures = [Figure("both kinds of clients got results before the next kill", f"{answered} of {len(kills)}")]
    for number in (signal.SIGKILL, signal.SIGTERM):
        ready = [kill.ready_s for kill in kills if kill.signal is number]
        times = f"{statistics.median(ready):.1f} s, {max(ready):.1f} s"
        figures.append(Figure(f"from {number.name} to ready: median, maximum", times))
    for kind in _KINDS:
        results = [result for result in clients.results if result.kind == kind]
        retries, most = sum(r.tries - 1 for r in results), max((r.tries for r in results), default=0)
        longest = max((r.seconds for r in results), default=0.0)
        counts = f"{retries} retries, at most {most} tries of a call, {longest:.1f} s"
        figures.append(Figure(f"{kind}: retries, most tries, longest call", counts))
    return figures
