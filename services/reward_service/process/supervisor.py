"""Supervisor: holds the listening socket and keeps one serving process running on it.

    listen ─▶ start a worker process ─▶ it exits, or its heartbeat stops ─▶ start the next one
    SIGTERM, SIGINT ─▶ close the socket, terminate the worker, wait, exit
    SIGHUP          ─▶ the worker drains and exits, the next one starts; if the terminal was closed: as SIGTERM

The socket stays open between two workers, so that connections wait for the next one instead of being refused,
which OpenRLHF's client does not survive. Requests that a worker had begun are lost; their clients retry.

Imports no model libraries: this process must not crash because of a model.
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

__all__ = [
    "BACKLOG",
    "CHANNEL_OPTION",
    "RESTART_STATUS",
    "Supervisor",
    "WorkerChannel",
    "WorkerExit",
    "listen",
    "restart_delay_s",
]

RESTART_STATUS = 70
"""Exit status of a worker that requests a restart (EX_SOFTWARE)."""
MAX_RESTARTS = 100
"""Unrequested restarts before the supervisor exits; a worker that ran for `STABLE_S` resets the count."""
STABLE_S = 600.0
MIN_START_INTERVAL_S = 5.0
"""Minimum seconds between two starts: a worker that exits at once must not keep the machine busy."""
HEARTBEAT_TIMEOUT_S = 60.0
"""Seconds without a heartbeat, in addition to `stop_timeout_s`, after which a worker counts as hung; its event
loop sends one every second."""
KILL_GRACE_S = 15.0
"""Seconds beyond `stop_timeout_s` that a worker has to exit before it is killed."""
START_TIMEOUT_S = 300.0
"""Seconds in which a worker must send its first heartbeat; models are loaded after it."""
SUSPENDED_S = 5.0
"""An iteration of the supervisor's own loop that took longer means that both processes were suspended."""
BACKLOG = 4096
"""Connections that the kernel queues until they are accepted: clients open one per sample, all at once."""
CHANNEL_OPTION = "--supervisor"
"""Command-line option of a worker with its `WorkerChannel`; not shown by `--help`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerChannel:
    """What a worker inherits from the supervisor."""

    listener: int
    """File descriptor of the listening socket."""
    heartbeat: int
    """File descriptor to write a byte to, every second."""
    restarts: int
    """Workers that ran before this one."""

    def __str__(self) -> str:
        return f"{self.listener},{self.heartbeat},{self.restarts}"

    @classmethod
    def parse(cls, text: str) -> WorkerChannel:
        """The inverse of `str`. Raises ValueError."""
        listener, heartbeat, restarts = map(int, text.split(","))
        return cls(listener, heartbeat, restarts)


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker ran and exited."""

    seconds: float
    served: bool
    """Whether it ever sent a heartbeat."""
    status: int
    """As in `subprocess`: negative for the signal that ended it."""
    requested: bool = False
    """Whether the supervisor terminated it for a restart."""


def restart_delay_s(last: WorkerExit, restarts: int, ever_served: bool) -> float | None:
    """Seconds until the next worker is started; None if a restart would not help.

    Args:
        last: the worker that has exited.
        restarts: unrequested restarts before it, since a worker was stable.
        ever_served: whether any worker of this supervisor ever served: then the cause of a failed start may be
            temporary.
    """
    could_not_start = not last.served and last.status >= 0
    if (could_not_start and not ever_served) or restarts >= MAX_RESTARTS:
        return None
    return max(0.0, MIN_START_INTERVAL_S - last.seconds)


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises OSError, with host and port in its message, if the address is unavailable."""
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
    """Runs worker processes on one socket, one at a time.

    Args:
        command: starts a worker; `CHANNEL_OPTION` is added.
        listener: the socket that all workers serve on; closed at shutdown.
        stop_timeout_s: seconds that a worker gives to requests in flight.
        heartbeat_timeout_s: seconds without a heartbeat after which a worker is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        listener: socket.socket,
        stop_timeout_s: float,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        self._command = list(command)
        self._listener = listener
        self._stop_timeout_s = stop_timeout_s
        self._heartbeat_timeout_s = heartbeat_timeout_s + stop_timeout_s
        self._stop_signals: set[int] = {signal.SIGTERM, signal.SIGINT}
        self._stopping = False
        self._restart_requested = False
        self._kill_at: float | None = None
        self._wakeup, self._wakeup_sender = socket.socketpair()
        for end in (self._wakeup, self._wakeup_sender):
            end.setblocking(False)

    def run(self) -> int:
        """Serve until a stop signal, or until a restart would not help; returns the exit status."""
        self._install_signal_handlers()
        restarts = total = 0
        ever_served = False
        while True:
            last = self._run_worker(total)
            if self._stopping:
                return 0 if last.status in {0, -signal.SIGTERM, -signal.SIGINT} else abs(last.status)
            ever_served |= last.served
            restarts = 0 if last.seconds > STABLE_S else restarts
            delay = restart_delay_s(last, restarts, ever_served)
            if delay is None:
                logger.error("the service %s; it is not restarted", _description(last.status))
                return abs(last.status) or 1
            level = logging.INFO if last.requested else logging.ERROR
            logger.log(level, "the service %s; restarting in %.1f s", _description(last.status), delay)
            restarts, total = restarts + (not last.requested), total + 1
            self._sleep(delay)
            if self._stopping:
                return 0

    def _install_signal_handlers(self) -> None:
        """Deliver all signals through the wake-up descriptor."""
        signal.set_wakeup_fd(self._wakeup_sender.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(signal.SIGHUP, lambda *_: None)
        if sys.stdin is not None and sys.stdin.isatty():
            self._stop_signals |= {signal.SIGHUP}  # the terminal was closed

    def _run_worker(self, restarts: int) -> WorkerExit:
        """Run one worker from start to exit."""
        heartbeats, sender = os.pipe()
        channel = WorkerChannel(self._listener.fileno(), sender, restarts)
        command = [*self._command, f"{CHANNEL_OPTION}={channel}"]
        started = time.monotonic()
        try:
            worker = subprocess.Popen(command, pass_fds=(channel.listener, sender))  # noqa: S603
        except OSError as exc:  # out of memory or processes, which may be temporary
            logger.error("cannot start a process: %s", exc)  # noqa: TRY400 (a traceback adds nothing)
            os.close(heartbeats)
            return WorkerExit(0.0, served=False, status=os.EX_OSERR)
        finally:
            os.close(sender)
        try:
            served = self._monitor(worker, heartbeats)
        finally:
            os.close(heartbeats)
        return WorkerExit(time.monotonic() - started, served, worker.wait(), self._restart_requested)

    def _monitor(self, worker: subprocess.Popen[bytes], heartbeats: int) -> bool:
        """Return when the worker has exited; whether it ever sent a heartbeat."""
        self._kill_at, self._restart_requested = None, False
        sources = [heartbeats, self._wakeup.fileno()]
        last_heartbeat = last_iteration = time.monotonic()
        served = False
        while worker.poll() is None:
            readable, _, _ = select.select(sources, [], [], 1.0)
            now = time.monotonic()
            if now - last_iteration > SUSPENDED_S:
                last_heartbeat = now
            last_iteration = now
            if heartbeats in readable:
                if os.read(heartbeats, 4096):
                    last_heartbeat, served = now, True
                else:
                    sources.remove(heartbeats)  # closed: the worker is about to exit
            if self._wakeup.fileno() in readable:
                self._handle_signals(worker, now)
            timeout_s = self._heartbeat_timeout_s if served else START_TIMEOUT_S
            self._kill_if_stale(worker, now, now - last_heartbeat, timeout_s)
        return served

    def _kill_if_stale(
        self, worker: subprocess.Popen[bytes], now: float, silence_s: float, timeout_s: float
    ) -> None:
        """Kill a worker whose heartbeat stopped, or whose time to exit is over."""
        if self._kill_at is None and silence_s > timeout_s:
            logger.error("the service has sent no heartbeat for %.0f s; it is killed", silence_s)
            self._kill_at = now
        if self._kill_at is not None and now >= self._kill_at:
            worker.kill()

    def _handle_signals(self, worker: subprocess.Popen[bytes], now: float) -> None:
        """Terminate the worker for a stop or a restart."""
        received = set(self._wakeup.recv(4096))
        if received & self._stop_signals:
            self._stop_listening()
        elif signal.SIGHUP in received:
            self._restart_requested = True
        else:
            return
        worker.terminate()  # for a SIGINT too: a second one would make it drop requests in flight
        self._kill_at = now + self._stop_timeout_s + KILL_GRACE_S

    def _sleep(self, seconds: float) -> None:
        """Sleep, or return early on a stop signal."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self._wakeup], [], [], left)
            if readable and set(self._wakeup.recv(4096)) & self._stop_signals:
                self._stop_listening()

    def _stop_listening(self) -> None:
        self._stopping = True
        self._listener.close()


def _description(status: int) -> str:
    if status == RESTART_STATUS:
        return "requested a restart"
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
