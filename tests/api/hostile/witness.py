"""A witness of an attack: what other callers, health checks and the memory see meanwhile, and the bounds.

    with Witness(target) as witness:                    a quiet second is measured first
        witness.repeat(lambda: witness.post("/score", body), workers=7)
    # here the bounds are asserted                       they are the constants of this module

The bounds hold for every attack. On a machine that others use, a latency may also be `NOISE` (for health checks
`HEALTH_NOISE`) times what was measured in the quiet second, or that many times what a server that does nothing
needed during the attack. When more processes want to run than there are cores, the bounds on latencies grow in
this proportion.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from load.schedule import quantile
from tests.api.hostile.service import ATTACKER, HONEST, Caller, HostileTarget
from tests.live import metric, until

__all__ = ["MAX_ERROR_BYTES", "NOISE", "Reply", "Witness", "statuses"]

MAX_SCORE_S = 2.0
"""p99 of another caller's one-item requests."""
MAX_HEALTH_S = 0.1
"""p99 of `GET /healthz`: twice the goal, because service, attacker and measurement share the cores."""
MAX_STOP_S = 0.5
"""The longest `GET /healthz`: a p99 over minutes would not show an attack that stops the event loop once."""
MAX_MEMORY = 2.0
"""Peak of the resident memory over idle, as a multiple of the stated budget."""
MAX_ERROR_BYTES = 64 * 1024
"""Bytes of an error reply, whatever came in."""
NOISE = 5
HEALTH_NOISE = 2
_QUIET_S = 1.0
_MIN_ATTACK_S = 1.0
_SETTLED_S = 60.0
_TIMEOUT_S = 120.0

Samples = dict[str, list[tuple[float, str]]]


@dataclass(frozen=True)
class Reply:
    """What the attacker got; status 0 without a response."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def json(self) -> Any:
        return json.loads(self.body)


class Witness:
    """Measures while its block runs; asserts the bounds at its end.

    Args:
        target: the service that the block attacks.
        max_health_s: for attacks that are known to delay `GET /healthz` more.
    """

    def __init__(self, target: HostileTarget, max_health_s: float = MAX_HEALTH_S) -> None:
        self._max_health_s = max_health_s
        self.replies: list[Reply] = []
        """Of `post`."""
        self.target = target
        self._held = ExitStack()

    def __enter__(self) -> Self:
        self._until_idle()
        config = {
            "url": self.target.url,
            "control_url": self.target.control_url,
            "pid": self.target.process.pid,
            "address": HONEST.address,
            "headers": self.target.headers(HONEST),
        }
        self._crowding = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.api.hostile.probe", json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "measuring\n"
        time.sleep(_QUIET_S)  # the duration of a measurement
        self._send("attack\n")
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(max(0.0, self._began + _MIN_ATTACK_S - time.monotonic()))
        with self._held:
            output, _ = self._process.communicate()
        if exc is None:
            samples = json.loads(output)
            self.quiet: Samples = samples["quiet"]
            self.attack: Samples = samples["attack"]
            self._verify()

    # Attacks --------------------------------------------------------------------------------------------------

    def post(
        self,
        path: str,
        body: Any,
        headers: dict[str, str] | None = None,
        caller: Caller = ATTACKER,
        method: str = "POST",
    ) -> Reply:
        """Send a request as `caller` and record its reply; `body` is text, chunks, or an object for JSON."""
        content = body if isinstance(body, bytes | str | Iterator) else json.dumps(body)
        began = time.monotonic()
        connection = http.client.HTTPConnection(
            urlsplit(self.target.url).netloc, timeout=_TIMEOUT_S, source_address=(caller.address, 0)
        )
        sent = {"content-type": "application/json"} | self.target.headers(caller) | (headers or {})
        reply = Reply(0)
        with suppress(OSError, http.client.HTTPException):
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
                connection.request(method, path, content, sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            reply = Reply(response.status, response.read(), names, time.monotonic() - began)
        connection.close()
        self.replies.append(reply)
        return reply

    def repeat(self, *attacks: Callable[[], object], workers: int = 8, seconds: float = 3.0) -> None:
        """Let `workers` threads repeat `attacks` in turn for `seconds`, and finish what they began."""
        until_s = time.monotonic() + seconds

        def work(first: int) -> None:
            number = first
            while time.monotonic() < until_s:
                attacks[number % len(attacks)]()
                number += 1

        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(work, number) for number in range(workers)]:
                done.result()

    def at_once(self, n: int, attack: Callable[[], Reply], workers: int | None = None) -> list[Reply]:
        """The replies of `n` attacks, `workers` of them at a time (by default all)."""
        with ThreadPoolExecutor(workers or n) as pool:
            return [sent.result() for sent in [pool.submit(attack) for _ in range(n)]]

    def hold(self, connection: Any) -> Any:
        """`connection`, which is closed after the measurement."""
        return self._held.enter_context(connection)

    def wait(self, seconds: float) -> None:
        """Measure for `seconds` more, while connections are held."""
        threading.Event().wait(seconds)

    # Bounds -----------------------------------------------------------------------------------------------------

    def p99(self, name: str) -> float:
        """Of the samples during the attack."""
        return _p99(self.attack, name)

    @property
    def peak_bytes(self) -> float:
        """Resident memory during the attack, above the quiet second's."""
        peak, idle = (max(n for n, _ in samples["rss"]) for samples in (self.attack, self.quiet))
        return float(peak - idle)

    def _verify(self) -> None:
        print(f"p99 of others: {[(name, self.p99(name)) for name in self.attack]}")  # noqa: T201 (pytest shows it)
        for name in ("healthz", "readyz", "score", "openrlhf"):
            problems = [outcome for _, outcome in self.attack[name] if outcome != "200"]
            assert not problems, f"{len(problems)} of {len(self.attack[name])} /{name}: {problems[0]}"
        for name, bound, noise in (("score", MAX_SCORE_S, NOISE), ("healthz", self._max_health_s, HEALTH_NOISE)):
            quiet = _p99(self.quiet, name) if self.quiet.get(name) else 0.0
            allowed = max(bound * self._crowding, noise * quiet, noise * self.p99("control"))
            assert self.p99(name) <= allowed, f"p99 of {name}: {self.p99(name):.3f} s, {allowed:.3f} s are allowed"
        longest = {name: max(seconds for seconds, _ in self.attack[name]) for name in ("healthz", "control")}
        allowed = max(MAX_STOP_S * self._crowding, HEALTH_NOISE * longest["control"])
        assert longest["healthz"] <= allowed, (
            f"the longest healthz took {longest['healthz']:.3f} s, {allowed:.3f} s are allowed"
        )
        memory = MAX_MEMORY * self.target.budget_bytes
        assert self.peak_bytes <= memory, (
            f"{self.peak_bytes / 2**20:.0f} MiB over idle, at most {memory / 2**20:.0f}"
        )
        errors = [len(reply.body) for reply in self.replies if reply.status >= 400]
        assert max(errors, default=0) <= MAX_ERROR_BYTES, f"an error reply has {max(errors)} bytes"
        self._until_idle()

    def _until_idle(self) -> None:
        """What an attack held, or wanted to have done, is released soon after it."""
        headers = self.target.headers(HONEST)
        held = ("glassbox_request_bytes", "glassbox_waiting_items", "glassbox_held_requests")
        until(lambda: not any(metric(self.target.url, name, headers) for name in held), _SETTLED_S)

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()


def _p99(samples: Samples, name: str) -> float:
    assert samples[name], f"nothing was measured of {name}"
    return quantile([seconds for seconds, _ in samples[name]], 0.99)


def statuses(replies: Sequence[Reply]) -> set[int]:
    """The different statuses."""
    return {reply.status for reply in replies}
