"""The service is killed, over and over, under load: no reward is lost, wrong, zero, or twice in a reply.

    worker: the process that serves ── SIGKILL, SIGTERM ── its supervisor starts another on the same socket
    service behind the front: SIGKILL to all its processes, SIGTERM to the first, as `docker stop` does
                              ── started again by us on the same port, behind HAProxy as it ships

Clients: OpenRLHF's own code, one rollout a time, and our RewardClient, batches; all in closed loops, so that each
has a request under way at every kill. The service remembers no vectors, so that every answer is computed.
"""

from __future__ import annotations

import logging
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice

import httpx
import psutil

from load.openrlhf_client import RolloutAsk, count_tries
from load.plan import Plan
from load.proxy import front, haproxy
from load.report import Check, Figure, Findings
from load.service import Service, SoakError
from load.work import Exchange, fresh
from reward_client import RetryPolicy, RewardClient, RewardError
from tools.demo import say
from tools.held_load import Answer, Ask, Crowd, difference

__all__ = ["run"]

_BUDGET_S = 180.0
"""Of one call of our client; of one try of OpenRLHF's."""
_ROLLOUTS, _BATCHES = 8, 4
"""Clients of either kind."""
_BATCH_ITEMS = 16
_POOL = 256
"""Different exchanges: their rewards are asked for before anything is killed."""
_CLEAR = 0.01
"""A reward above it cannot be taken for zero."""
_ANSWERS_BETWEEN = 60
"""Answers after a service is back and before it is killed again."""
_HEED_S = 60.0
"""Seconds in which a process that got a signal must have ended."""
_SPREAD_S = 1.0
"""A kill comes up to so much later, so that kills meet requests in all their states."""
_OPTIONS = ("--gold", "none", "--cache-bytes", "0")

Disturb = Callable[[Service, signal.Signals], tuple[float, bool]]
"""Kills; the seconds until the service was ready again, and whether it ended when it was told to."""


@dataclass(frozen=True)
class _Kill:
    """One kill, and how long it took until the service was ready again."""

    signal: signal.Signals
    ready_s: float
    cut_off: int
    """Requests that clients asked again from the kill until the next answers."""
    answered: frozenset[str]
    """Kinds of clients that got an answer after it."""
    ended: bool
    """Whether a SIGTERM was heeded: all processes ended by themselves within a minute."""


class BatchAsk:
    """Asks with our client for one batch after the other.

    Args:
        url: of the service.
        batches: exchanges and their rewards, in turn.
    """

    def __init__(self, url: str, batches: list[list[tuple[Exchange, float]]]) -> None:
        self._transport = _Counting()
        self._client = RewardClient(url, retry=RetryPolicy(budget_s=_BUDGET_S), transport=self._transport)
        self._batches = batches
        self._turn = 0

    def __call__(self) -> Answer:
        batch = self._batches[self._turn % len(self._batches)]
        self._turn += 1
        requests, started = self._transport.requests, time.monotonic()
        try:
            reply = self._client.score([exchange.item for exchange, _ in batch], deadline_s=_BUDGET_S)
            problem = difference([expected for _, expected in batch], reply.rewards)
        except RewardError as exc:
            problem = f"{type(exc).__name__}: {exc}"
        return Answer("RewardClient", time.monotonic() - started, self._transport.requests - requests, problem)

    def close(self) -> None:
        self._client.close()


class _Counting(httpx.HTTPTransport):
    """Counts requests, so that a call knows its tries."""

    def __init__(self) -> None:
        super().__init__(limits=httpx.Limits(keepalive_expiry=4.0))  # as the client's own
        self.requests = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return super().handle_request(request)


def run(plan: Plan) -> list[Findings]:
    """Both targets."""
    count_tries()
    logging.getLogger("reward_client").setLevel(
        logging.ERROR
    )  # it warns of each circuit that opens: here, of course
    return [_worker(plan), _behind_the_front(plan)]


def _worker(plan: Plan) -> Findings:
    with Service(plan.folder / "worker.log", *_OPTIONS) as service:
        return _killed("worker", plan, service, service.url, _kill_worker)


def _behind_the_front(plan: Plan) -> Findings:
    program = haproxy()
    if program is None:
        reason = "there is no haproxy on the PATH (Debian: apt-get install haproxy)"
        return Findings("kills: service behind the front", _done("service behind the front", plan), not_run=reason)
    with (
        Service(plan.folder / "fronted.log", *_OPTIONS) as service,
        front(program, plan.folder, service.port) as url,
    ):
        return _killed("service behind the front", plan, service, url, _kill_service)


def _kill_worker(service: Service, number: signal.Signals) -> tuple[float, bool]:
    began, worker = time.monotonic(), service.worker()
    worker.send_signal(number)
    try:
        worker.wait(_HEED_S)
        ended = True
    except psutil.TimeoutExpired:
        ended = False
    service.wait_until_ready(other_than=worker)
    return time.monotonic() - began, ended


def _kill_service(service: Service, number: signal.Signals) -> tuple[float, bool]:
    began, ended = time.monotonic(), True
    if number is signal.SIGKILL:
        service.kill_all()
    else:
        ended = service.stop()
    service.start()
    service.wait_until_ready()
    return time.monotonic() - began, ended


def _killed(target: str, plan: Plan, service: Service, url: str, disturb: Disturb) -> Findings:
    """Kill `target` under load."""
    kills: list[_Kill] = []
    draw = random.Random(target)
    with _crowd(url, _priced(url)) as crowd:
        crowd.wait_for(_ANSWERS_BETWEEN)
        for number in (signal.SIGKILL, signal.SIGTERM):
            for count in range(plan.n_kills):
                time.sleep(draw.uniform(0.0, _SPREAD_S))
                before = len(crowd.answers), crowd.n_repeats
                ready_s, ended = disturb(service, number)
                after = len(crowd.answers)
                crowd.wait_for(_ANSWERS_BETWEEN)
                answered = frozenset(answer.kind for answer in crowd.answers[after:] if answer.problem is None)
                kills.append(_Kill(number, ready_s, crowd.n_repeats - before[1], answered, ended))
                _say_kill(target, count + 1, plan.n_kills, kills[-1], crowd, before)
    checks = [*_checks(crowd), *_checks_of(kills, behind_a_front=url != service.url)]
    return Findings(f"kills: {target}", _done(target, plan), checks, _figures(crowd, kills))


def _say_kill(target: str, count: int, n: int, kill: _Kill, crowd: Crowd, before: tuple[int, int]) -> None:
    answers, repeats = len(crowd.answers) - before[0], crowd.n_repeats - before[1]
    say(
        f"{target}: {kill.signal.name} {count}/{n}, ready after {kill.ready_s:.1f} s; "
        f"{answers} answers, {repeats} retries since, {len(crowd.lost)} lost so far"
    )


def _priced(url: str) -> list[tuple[Exchange, float]]:
    """`_POOL` exchanges with their rewards, none of which could be taken for zero. Raises RewardError."""
    exchanges = list(islice(fresh("kills"), 2 * _POOL))
    with RewardClient(url) as client:
        rewards = client.score([exchange.item for exchange in exchanges]).rewards
    pairs = zip(exchanges, rewards, strict=True)
    priced = [(exchange, reward) for exchange, reward in pairs if reward is not None and reward > _CLEAR]
    if len(priced) < _POOL:
        raise SoakError(f"only {len(priced)} of {len(exchanges)} rewards are clearly above zero")
    return priced[:_POOL]


@contextmanager
def _crowd(url: str, priced: list[tuple[Exchange, float]]) -> Iterator[Crowd]:
    """All clients, each of which begins elsewhere in the texts."""
    with ExitStack() as clients:
        asks: list[Ask] = []
        for number in range(_ROLLOUTS):
            start = number * _POOL // _ROLLOUTS
            asks.append(RolloutAsk(f"{url}/r/soak-{number}/get_reward", priced[start:] + priced[:start]))
        for number in range(_BATCHES):
            start = number * _POOL // _BATCHES
            turned = priced[start:] + priced[:start]
            batches = [turned[i : i + _BATCH_ITEMS] for i in range(0, len(turned), _BATCH_ITEMS)]
            client = BatchAsk(url, batches)
            clients.callback(client.close)
            asks.append(client)
        with Crowd(asks) as crowd:
            yield crowd


def _done(target: str, plan: Plan) -> str:
    return (
        f"The {target} gets SIGKILL {plan.n_kills} times, then SIGTERM {plan.n_kills} times, while {_ROLLOUTS} "
        f"clients of OpenRLHF's own code post and {_BATCHES} RewardClients send batches of {_BATCH_ITEMS}."
    )


def _checks(crowd: Crowd) -> list[Check]:
    ends = {
        kind: [answer for answer in crowd.answers if answer.kind == kind] for kind in ("OpenRLHF", "RewardClient")
    }
    lost = {kind: [answer for answer in found if answer.problem] for kind, found in ends.items()}
    others = [answer.problem for answer in crowd.lost if answer.kind not in ends]
    rules = {
        "OpenRLHF": "OpenRLHF: each rollout has one reward, the right one",
        "RewardClient": f"RewardClient: each item has one reward, the right one, within {_BUDGET_S:.0f} s",
    }
    checks = []
    for kind, rule in rules.items():
        first = f"; the first: {lost[kind][0].problem}" if lost[kind] else ""
        counted = f"{len(ends[kind])} calls, {len(lost[kind])} lost{first}"
        checks.append(Check(rule, counted, bool(ends[kind]) and not lost[kind]))
    counted = f"{len(others)} did not" + (f"; the first: {others[0]}" if others else "")
    checks.append(Check("every client asks to the end, and none hangs", counted, not others))
    return checks


def _checks_of(kills: list[_Kill], behind_a_front: bool) -> list[Check]:
    """Whether the kills were heeded, and disturbed anybody."""
    heeded = [kill.ended for kill in kills if kill.signal is signal.SIGTERM]
    checks = [Check("SIGTERM ends what got it", f"{sum(heeded)} of {len(heeded)}", all(heeded))]
    if not behind_a_front:  # which may ask again by itself
        hit = sum(kill.cut_off > 0 for kill in kills if kill.signal is signal.SIGKILL)
        n = sum(kill.signal is signal.SIGKILL for kill in kills)
        checks.append(Check("each SIGKILL cut off requests, which were asked again", f"{hit} of {n}", hit == n))
    return checks


def _figures(crowd: Crowd, kills: list[_Kill]) -> list[Figure]:
    both = frozenset({"OpenRLHF", "RewardClient"})
    answered = sum(kill.answered >= both for kill in kills)
    figures = [Figure("both kinds of clients were answered before the next kill", f"{answered} of {len(kills)}")]
    for number in (signal.SIGKILL, signal.SIGTERM):
        ready = [kill.ready_s for kill in kills if kill.signal is number]
        words = f"{statistics.median(ready):.1f} s, {max(ready):.1f} s"
        figures.append(Figure(f"from {number.name} to ready: median, longest", words))
    for kind in ("OpenRLHF", "RewardClient"):
        answers = [answer for answer in crowd.answers if answer.kind == kind]
        repeats, most = sum(a.tries - 1 for a in answers), max((a.tries for a in answers), default=0)
        longest = max((a.seconds for a in answers), default=0.0)
        words = f"{repeats} retries, at most {most} tries a call, {longest:.1f} s"
        figures.append(Figure(f"{kind}: retries, most tries, longest call", words))
    return figures
