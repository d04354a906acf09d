"""The parent that holds the listening socket, and starts a process that serves whenever there is none.

    listen ─▶ start a child on the socket ─▶ it ends, or gives no sign of life ─▶ start another
    SIGTERM, SIGINT ─▶ close the socket, tell the child, wait, end
    SIGHUP          ─▶ the child drains and ends, another is started; a closed terminal stops it instead

The socket stays open in between: who connects then waits for the next child instead of being refused, which is
what OpenRLHF's client does not survive. What the child had begun is lost with it, and asked again by its client.

Imports nothing heavy: this process must not be able to die of what a model does.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from reward_service.settings import Settings

__all__ = ["BACKLOG", "BROKEN", "OPTION", "Life", "Lines", "Supervisor", "listen", "pause_s"]

BROKEN = 70
"""Exit status of a child that wants to be replaced (EX_SOFTWARE)."""
MAX_RESTARTS = 100
"""Children that are replaced, unasked, before the parent gives up; a life of `LONG_LIFE_S` starts anew."""
LONG_LIFE_S = 600.0
MIN_LIFE_S = 5.0
"""Seconds between two starts, at the least: a child that dies at once must not keep the machine busy."""
SILENCE_S = 60.0
"""Seconds without a sign of life after which a child counts as hung, beyond those that it may take to stop; its
event loop gives one each second until then."""
GRACE_S = 15.0
"""Seconds beyond `stop_timeout_s` that a child has to end, before it is killed."""

START_S = 300.0
"""Seconds in which a child must give its first one; models are loaded after it."""
STOPPED_S = 5.0
"""A turn of the parent's own loop that took longer means that both were stopped (by a debugger, say)."""
BACKLOG = 4096
"""Connections that the kernel holds until they are accepted: clients open one a sample, all at once."""
OPTION = "--supervisor"
"""The option of a child's command line that holds its `Lines`; no concern of a person who reads `--help`."""

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

    def __str__(self) -> str:
        return f"{self.listener},{self.beats},{self.restarts}"

    @classmethod
    def parse(cls, text: str) -> Lines:
        """What `str` made of them. Raises ValueError for anything else."""
        listener, beats, restarts = map(int, text.split(","))
        return cls(listener, beats, restarts)


@dataclass(frozen=True, slots=True)
class Life:
    """How a child lived and ended."""

    seconds: float
    served: bool
    """Whether its event loop ever gave a sign of life."""
    status: int
    """As of `subprocess`: negative for the signal that ended it."""
    asked_for: bool = False
    """Whether it was told to make room for another."""


def pause_s(life: Life, restarts: int, ever_served: bool) -> float | None:
    """Seconds until the next child is started; None when another would not help.

    Args:
        life: of the child that has ended.
        restarts: children that were replaced before it, unasked, since the last long life.
        ever_served: whether a child of this parent ever served: then what keeps this one from starting may pass.
    """
    could_not_start = not life.served and life.status >= 0
    if (could_not_start and not ever_served) or restarts >= MAX_RESTARTS:
        return None
    return max(0.0, MIN_LIFE_S - life.seconds)


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises OSError, with host and port in it, when the address cannot be had."""
    try:
        found = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = min(found, key=lambda answer: answer[0] != socket.AF_INET)  # for localhost
        return socket.create_server((str(address[0]), settings.port), family=family, backlog=BACKLOG)
    except OSError as exc:
        where = f"{settings.host}:{settings.port}"
        raise OSError(exc.errno, f"cannot listen on {where}: {exc.strerror}; choose another with --port") from exc


class Supervisor:
    """Runs children on one socket, one at a time.

    Args:
        command: starts a child; `OPTION` with its `Lines` is added.
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
        self._stops: set[int] = {signal.SIGTERM, signal.SIGINT}
        self._stopping = False
        self._asked_for_another = False
        self._kill_at: float | None = None
        self._wakes, self._woken_by = socket.socketpair()
        for end in (self._wakes, self._woken_by):
            end.setblocking(False)

    def run(self) -> int:
        """Serve until told to stop, or until another child would not help; the exit status."""
        self._listen_to_signals()
        restarts = total = 0
        ever_served = False
        while True:
            life = self._live(total)
            if self._stopping:
                return 0 if life.status in {0, -signal.SIGTERM, -signal.SIGINT} else abs(life.status)
            ever_served |= life.served
            restarts = 0 if life.seconds > LONG_LIFE_S else restarts
            pause = pause_s(life, restarts, ever_served)
            if pause is None:
                logger.error("the service %s; it is not started again", _ended(life.status))
                return abs(life.status) or 1
            level = logging.INFO if life.asked_for else logging.ERROR
            logger.log(level, "the service %s; another is started in %.1f s", _ended(life.status), pause)
            restarts, total = restarts + (not life.asked_for), total + 1
            self._wait(pause)
            if self._stopping:
                return 0

    def _listen_to_signals(self) -> None:
        """All signals arrive through the wake-up descriptor."""
        signal.set_wakeup_fd(self._woken_by.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(signal.SIGHUP, lambda *_: None)
        if sys.stdin is not None and sys.stdin.isatty():
            self._stops |= {signal.SIGHUP}  # the terminal was closed

    def _live(self, restarts: int) -> Life:
        """One child, from its start to its end."""
        mine, its = os.pipe()
        lines = Lines(self._listener.fileno(), its, restarts)
        command = [*self._command, f"{OPTION}={lines}"]
        started = time.monotonic()
        try:
            child = subprocess.Popen(command, pass_fds=(lines.listener, its))  # noqa: S603
        except OSError as exc:  # no memory or no process left, which may pass
            logger.error("no process can be started: %s", exc)  # noqa: TRY400 (a trace says no more)
            os.close(mine)
            return Life(0.0, served=False, status=os.EX_OSERR)
        finally:
            os.close(its)
        try:
            served = self._watch(child, mine)
        finally:
            os.close(mine)
        return Life(time.monotonic() - started, served, child.wait(), self._asked_for_another)

    def _watch(self, child: subprocess.Popen[bytes], beats: int) -> bool:
        """Return when the child has ended; whether it ever gave a sign of life."""
        self._kill_at, self._asked_for_another = None, False
        sources = [beats, self._wakes.fileno()]
        heard = turned = time.monotonic()
        served = False
        while child.poll() is None:
            readable, _, _ = select.select(sources, [], [], 1.0)
            now = time.monotonic()
            if now - turned > STOPPED_S:
                heard = now
            turned = now
            if beats in readable:
                if os.read(beats, 4096):
                    heard, served = now, True
                else:
                    sources.remove(beats)  # it is about to end
            if self._wakes.fileno() in readable:
                self._obey(child, now)
            self._mind(child, now, now - heard, self._silence_s if served else START_S)
        return served

    def _mind(self, child: subprocess.Popen[bytes], now: float, silence_s: float, limit_s: float) -> None:
        """Kill a child that has been silent for too long, or was told to stop long ago."""
        if self._kill_at is None and silence_s > limit_s:
            logger.error("the service has given no sign of life for %.0f s; it is killed", silence_s)
            self._kill_at = now
        if self._kill_at is not None and now >= self._kill_at:
            child.kill()

    def _obey(self, child: subprocess.Popen[bytes], now: float) -> None:
        """Do what the signals ask for."""
        asked = set(self._wakes.recv(4096))
        if asked & self._stops:
            self._stop_listening()
        elif signal.SIGHUP in asked:
            self._asked_for_another = True
        else:
            return
        child.terminate()  # for a SIGINT too: a second one would make it drop what is in flight
        self._kill_at = now + self._stop_timeout_s + GRACE_S

    def _wait(self, seconds: float) -> None:
        """Wait, cancel_on told to stop."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self._wakes], [], [], left)
            if readable and set(self._wakes.recv(4096)) & self._stops:
                self._stop_listening()

    def _stop_listening(self) -> None:
        self._stopping = True
        self._listener.close()


def _ended(status: int) -> str:
    if status == BROKEN:
        return "gave up"
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
