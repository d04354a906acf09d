"""The parent that holds the listening socket, and starts a process that serves whenever there is none.

    listen ─▶ start a child on the socket ─▶ it ends, or gives no sign of life ─▶ start another
    SIGTERM, SIGINT ─▶ close the socket, tell the child, wait, end
    SIGHUP          ─▶ the child drains and ends, another is started

The socket stays open in between: who connects then waits for the next child instead of being refused, which is
what OpenRLHF's client does not survive. What the child had begun is lost with it, and asked again by its client.

Imports nothing heavy: this process must not be able to die of what a model does.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reward_service.settings import Settings

__all__ = ["BROKEN", "Life", "Lines", "Supervisor", "listen", "pause_s"]

BROKEN = 70
"""Exit status of a child that wants to be replaced (EX_SOFTWARE)."""
MAX_RESTARTS = 100
"""Children that are replaced before the parent gives up; a life of `LONG_LIFE_S` starts the count anew."""
LONG_LIFE_S = 600.0
MIN_LIFE_S = 5.0
"""Seconds between two starts, at the least: a child that dies at once must not keep the machine busy."""
SILENCE_S = 60.0
"""Seconds without a sign of life after which a child counts as hung, beyond those that it may take to stop; its
event loop gives one each second until then."""
GRACE_S = 15.0
"""Seconds beyond `stop_timeout_s` that a child has to end, before it is killed."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LINES = ("listener", "beats", "restarts")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lines:
    """What a child has from its parent."""

    listener: int
    """File descriptor of the listening socket."""
    beats: int
    """File descriptor to write a byte to, each second."""
    restarts: int
    """How many children there were before."""

    def arguments(self) -> list[str]:
        """The options of a child's command line that say so."""
        return [f"--{_option(field)}={getattr(self, field)}" for field in _LINES]

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Make `parser` understand them; no concern of a person who reads `--help`."""
        for field in _LINES:
            parser.add_argument(f"--{_option(field)}", dest=field, type=int, help=argparse.SUPPRESS)

    @classmethod
    def taken_from(cls, given: dict[str, Any]) -> Lines | None:
        """Take them out of what was parsed; None where this is no child."""
        values = [given.pop(field, None) for field in _LINES]
        return None if None in values else cls(*values)


@dataclass(frozen=True, slots=True)
class Life:
    """How a child lived and ended."""

    seconds: float
    served: bool
    """Whether its event loop ever gave a sign of life."""
    status: int
    """As of `subprocess`: negative for the signal that ended it."""


def pause_s(life: Life, restarts: int) -> float | None:
    """Seconds until the next child is started; None when another would not help.

    Args:
        life: of the child that has ended.
        restarts: children that were replaced before it, since the last long life.
    """
    could_not_start = not life.served and life.status >= 0
    if could_not_start or restarts >= MAX_RESTARTS:
        return None
    return max(0.0, MIN_LIFE_S - life.seconds)


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises OSError, with host and port in it, when the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=4096)
    except OSError as exc:
        where = f"{settings.host}:{settings.port}"
        raise OSError(exc.errno, f"cannot listen on {where}: {exc.strerror}; choose another with --port") from exc


class Supervisor:
    """Runs children on one socket, one at a time.

    Args:
        command: starts a child; `Lines.arguments` are added.
        listener: the socket that all of them serve on; closed when the parent is told to stop.
        stop_timeout_s: seconds that a child gives to what is in flight.
        silence_s: seconds without a sign of life after which a child is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        listener: socket.socket,
        stop_timeout_s: float,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._command = list(command)
        self._listener = listener
        self._stop_timeout_s = stop_timeout_s
        self._silence_s = silence_s + stop_timeout_s
        self._stopping = False
        self._kill_at: float | None = None
        self._wakes, self._woken_by = socket.socketpair()
        for end in (self._wakes, self._woken_by):
            end.setblocking(False)

    def run(self) -> int:
        """Serve until told to stop, or until another child would not help; the exit status."""
        signal.set_wakeup_fd(self._woken_by.fileno())
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)  # it arrives through the wake-up descriptor
        restarts = total = 0
        while not self._stopping:
            life = self._live(total)
            if self._stopping:
                return 0 if life.status in {0, -signal.SIGTERM, -signal.SIGINT} else abs(life.status)
            restarts = 0 if life.seconds > LONG_LIFE_S else restarts
            pause = pause_s(life, restarts)
            if pause is None:
                logger.error("the service %s; it is not started again", _ended(life.status))
                return abs(life.status) or 1
            logger.error("the service %s; another is started in %.1f s", _ended(life.status), pause)
            restarts, total = restarts + 1, total + 1
            self._wait(pause)
        return 0

    def _live(self, restarts: int) -> Life:
        """One child, from its start to its end."""
        mine, its = os.pipe()
        lines = Lines(self._listener.fileno(), its, restarts)
        started = time.monotonic()
        child = subprocess.Popen([*self._command, *lines.arguments()], pass_fds=(lines.listener, its))  # noqa: S603
        os.close(its)
        try:
            served = self._watch(child, mine)
        finally:
            os.close(mine)
        return Life(time.monotonic() - started, served, _status(child))

    def _watch(self, child: subprocess.Popen[bytes], beats: int) -> bool:
        """Return when the child has ended; whether it ever gave a sign of life."""
        self._kill_at = None
        heard: float | None = None
        wakes = self._wakes.fileno()
        while True:
            readable, _, _ = select.select([beats, wakes], [], [], 1.0)
            now = time.monotonic()
            if beats in readable:
                if not os.read(beats, 4096):
                    return heard is not None
                heard = now
            if wakes in readable:
                self._obey(child, now)
            if heard is not None and self._kill_at is None and now - heard > self._silence_s:
                logger.error("the service has given no sign of life for %.0f s; it is killed", now - heard)
                self._kill_at = now
            if self._kill_at is not None and now >= self._kill_at:
                child.kill()

    def _obey(self, child: subprocess.Popen[bytes], now: float) -> None:
        """Do what the signals ask for."""
        asked = set(self._wakes.recv(4096))
        if asked & {signal.SIGTERM, signal.SIGINT}:
            self._stop_listening()
        elif signal.SIGHUP not in asked:
            return
        child.terminate()  # for a SIGINT too: a second one would make it drop what is in flight
        self._kill_at = now + self._stop_timeout_s + GRACE_S

    def _wait(self, seconds: float) -> None:
        """Wait, unless told to stop."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self._wakes], [], [], left)
            if readable and set(self._wakes.recv(4096)) & {signal.SIGTERM, signal.SIGINT}:
                self._stop_listening()

    def _stop_listening(self) -> None:
        self._stopping = True
        self._listener.close()


def _option(field: str) -> str:
    return f"supervisor-{field}"


def _status(child: subprocess.Popen[bytes]) -> int:
    """How a child ended that has closed its line; one that does not end after that is killed."""
    try:
        return child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _ended(status: int) -> str:
    if status == BROKEN:
        return "gave up"
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
