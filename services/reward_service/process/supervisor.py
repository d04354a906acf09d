"""The supervisor: a parent process that holds the listening socket and restarts the worker, which serves requests.

    listen ─▶ start a worker on the socket ─▶ it ends, or its heartbeat stops ─▶ start another
    SIGTERM, SIGINT ─▶ close the socket, terminate the worker, wait for it, exit
    SIGHUP          ─▶ the worker drains and ends, and another is started; when the terminal was closed: as SIGTERM

The socket stays open between two workers, so that new connections wait in the backlog instead of being refused:
OpenRLHF's client does not survive a refused connection. Requests in flight in the old worker fail, and their
clients retry them.

This module imports no model library, so that a fault in one cannot end the supervisor.
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

EXIT_BROKEN = 70
"""Exit status of a worker that has to be replaced, because one of its models failed permanently (EX_SOFTWARE)."""
MAX_RESTARTS = 100
"""Restarts without a SIGHUP before the supervisor exits; the count is reset after a worker that ran `STABLE_S`."""
STABLE_S = 600.0
MIN_RESTART_INTERVAL_S = 5.0
"""Minimum seconds between two starts: a worker that crashes at start must not keep the CPUs busy."""
HEARTBEAT_TIMEOUT_S = 60.0
"""Seconds without a heartbeat after which a worker counts as hung, in addition to `stop_timeout_s`; its event loop
sends one each second until it shuts down."""
KILL_GRACE_S = 15.0
"""Seconds in addition to `stop_timeout_s` before a worker that was terminated is killed."""
START_TIMEOUT_S = 300.0
"""Seconds until the first heartbeat of a worker; models are loaded after it."""
SUSPENDED_S = 5.0
"""A monitor iteration that took longer means that both processes were suspended, for example by a debugger."""
BACKLOG = 4096
"""Connections that the kernel queues until they are accepted: a trainer opens one for each sample, all at once."""
OPTION = "--supervisor"
"""Option on a worker's command line with its `WorkerChannel`; internal, and not listed by `--help`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerChannel:
    """What a worker inherits from its supervisor."""

    listener: int
    """File descriptor of the listening socket."""
    heartbeat: int
    """File descriptor to write a byte to, each second."""
    restarts: int
    """Workers that the supervisor started before this one."""

    def __str__(self) -> str:
        return f"{self.listener},{self.heartbeat},{self.restarts}"

    @classmethod
    def parse(cls, text: str) -> WorkerChannel:
        """Inverse of `str`. Raises ValueError for malformed text."""
        listener, heartbeat, restarts = map(int, text.split(","))
        return cls(listener, heartbeat, restarts)


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How long a worker ran, and how it ended."""

    seconds: float
    served: bool
    """Whether it sent at least one heartbeat."""
    status: int
    """Return code as in `subprocess`: negative for a signal."""
    requested: bool = False
    """Whether it ended because of a SIGHUP to the supervisor."""


def restart_delay_s(worker: WorkerExit, restarts: int, ever_served: bool) -> float | None:
    """Seconds until the next worker is started; None when the supervisor should exit instead.

    Args:
        worker: the worker that has ended.
        restarts: restarts without a SIGHUP since the last worker that ran longer than `STABLE_S`.
        ever_served: whether any worker of this supervisor served: then a failed start may be temporary.
    """
    failed_to_start = not worker.served and worker.status >= 0
    if (failed_to_start and not ever_served) or restarts >= MAX_RESTARTS:
        return None
    return max(0.0, MIN_RESTART_INTERVAL_S - worker.seconds)


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket; `::` accepts IPv4 too.

    Raises:
        OSError: the address is not available; the message has host and port.
    """
    try:
        found = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)  # localhost: IPv4 first
        dual = settings.host == "::" and socket.has_dualstack_ipv6()
        where = str(address[0]), settings.port
        listener = socket.create_server(where, family=family, backlog=BACKLOG, dualstack_ipv6=dual)
    except OSError as exc:
        wanted = f"{settings.host}:{settings.port}"
        raise OSError(exc.errno, f"cannot listen on {wanted}: {exc.strerror}; choose another with --port") from exc
    logger.info("listening on %s", url_of(listener))
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Supervisor:
    """Runs workers on one socket, one at a time.

    Args:
        command: command that starts a worker; `OPTION` is appended.
        listener: socket that all workers accept from; closed when the supervisor receives SIGTERM or SIGINT.
        stop_timeout_s: seconds that a worker may take to finish the requests in flight.
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
        self._signal_reader, self._signal_writer = socket.socketpair()
        for end in (self._signal_reader, self._signal_writer):
            end.setblocking(False)

    def run(self) -> int:
        """Run workers until a stop signal arrives or a restart would not help; return the exit status."""
        self._install_signal_handlers()
        restarts = total = 0
        ever_served = False
        while True:
            ended = self._run_worker(total)
            if self._stopping:
                return 0 if ended.status in {0, -signal.SIGTERM, -signal.SIGINT} else abs(ended.status)
            ever_served |= ended.served
            restarts = 0 if ended.seconds > STABLE_S else restarts
            delay_s = restart_delay_s(ended, restarts, ever_served)
            if delay_s is None:
                logger.error("the worker %s; it is not restarted", _describe_exit(ended.status))
                return abs(ended.status) or 1
            level = logging.INFO if ended.requested else logging.ERROR
            logger.log(level, "the worker %s; restarting in %.1f s", _describe_exit(ended.status), delay_s)
            restarts, total = restarts + (not ended.requested), total + 1
            self._wait(delay_s)
            if self._stopping:
                return 0

    def _install_signal_handlers(self) -> None:
        """Deliver signals through the wake-up descriptor, which `select` can wait for."""
        signal.set_wakeup_fd(self._signal_writer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(signal.SIGHUP, lambda *_: None)
        if sys.stdin is not None and sys.stdin.isatty():
            self._stop_signals |= {signal.SIGHUP}  # the terminal was closed

    def _run_worker(self, restarts: int) -> WorkerExit:
        """Start a worker and return when it has ended."""
        read_end, write_end = os.pipe()
        channel = WorkerChannel(self._listener.fileno(), write_end, restarts)
        command = [*self._command, f"{OPTION}={channel}"]
        started = time.monotonic()
        try:
            worker = subprocess.Popen(command, pass_fds=(channel.listener, write_end))  # noqa: S603
        except OSError as exc:  # out of memory or processes, which may be temporary
            logger.error("cannot start a worker: %s", exc)  # noqa: TRY400 (the traceback adds nothing)
            os.close(read_end)
            return WorkerExit(0.0, served=False, status=os.EX_OSERR)
        finally:
            os.close(write_end)
        try:
            served = self._monitor(worker, read_end)
        finally:
            os.close(read_end)
        return WorkerExit(time.monotonic() - started, served, worker.wait(), self._restart_requested)

    def _monitor(self, worker: subprocess.Popen[bytes], heartbeat: int) -> bool:
        """Return when the worker has ended: whether it ever sent a heartbeat."""
        self._kill_at, self._restart_requested = None, False
        sources = [heartbeat, self._signal_reader.fileno()]
        last_heartbeat = last_iteration = time.monotonic()
        served = False
        while worker.poll() is None:
            readable, _, _ = select.select(sources, [], [], 1.0)
            now = time.monotonic()
            if now - last_iteration > SUSPENDED_S:
                last_heartbeat = now
            last_iteration = now
            if heartbeat in readable:
                if os.read(heartbeat, 4096):
                    last_heartbeat, served = now, True
                else:
                    sources.remove(heartbeat)  # closed: the worker is about to end
            if self._signal_reader.fileno() in readable:
                self._handle_signals(worker, now)
            limit_s = self._heartbeat_timeout_s if served else START_TIMEOUT_S
            self._kill_if_stale(worker, now, now - last_heartbeat, limit_s)
        return served

    def _kill_if_stale(self, worker: subprocess.Popen[bytes], now: float, silent_s: float, limit_s: float) -> None:
        """Kill a worker whose last heartbeat is too old, or that did not end in time after SIGTERM."""
        if self._kill_at is None and silent_s > limit_s:
            logger.error("no heartbeat from the worker for %.0f s; killing it", silent_s)
            self._kill_at = now
        if self._kill_at is not None and now >= self._kill_at:
            worker.kill()

    def _handle_signals(self, worker: subprocess.Popen[bytes], now: float) -> None:
        """Terminate the worker when a stop signal or SIGHUP has arrived."""
        received = set(self._signal_reader.recv(4096))
        if received & self._stop_signals:
            self._stop_listening()
        elif signal.SIGHUP in received:
            self._restart_requested = True
        else:
            return
        worker.terminate()  # for SIGINT too: a second SIGINT makes uvicorn drop the requests in flight
        self._kill_at = now + self._stop_timeout_s + KILL_GRACE_S

    def _wait(self, seconds: float) -> None:
        """Sleep for `seconds`, or until a stop signal arrives."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self._signal_reader], [], [], left)
            if readable and set(self._signal_reader.recv(4096)) & self._stop_signals:
                self._stop_listening()

    def _stop_listening(self) -> None:
        self._stopping = True
        self._listener.close()


def _describe_exit(status: int) -> str:
    if status == EXIT_BROKEN:
        return "ended because a model failed permanently"
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
