"""The serving process: uvicorn with the application, graceful shutdown and heartbeats.

signal ──▶ drain ──▶ uvicorn closes its listener, finishes requests in flight, exits
a model has stopped for good ──▶ the same, with the exit status that requests a restart
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from reward_service.app import create_app
from reward_service.process.connection_limits import LimitedHttpProtocol
from reward_service.process.cpu_scheduling import set_batch
from reward_service.process.supervisor import BACKLOG, RESTART_STATUS, WorkerChannel
from reward_service.settings import Settings

__all__ = ["RewardServer", "serve", "server_for"]

KEEP_ALIVE_S = 25
"""Seconds that an idle connection stays open: longer than clients keep theirs (aiohttp: 15), so that no client
sends a request while it is being closed; less than `MAX_HEADER_S`, which aborts connections."""
_TICKS_PER_HEARTBEAT = 10
"""uvicorn calls `on_tick` ten times a second."""

logger = logging.getLogger(__name__)


class RewardServer(uvicorn.Server):
    """Begins the drain as soon as a signal arrives, and sends heartbeats to the supervisor."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, heartbeat: int | None = None) -> None:
        super().__init__(config)
        self.needs_restart = False
        """Whether it stopped because a model has stopped for good."""
        self._app = app
        self._heartbeat = heartbeat

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_HEARTBEAT == 0 and self._heartbeat is not None:
            self._send_heartbeat(self._heartbeat)
        state = getattr(self._app.state, "glassbox", None)
        if state is not None and state.is_broken and not self.should_exit:
            logger.error("a model has stopped for good: this process exits")
            self.needs_restart = self.should_exit = True
            self._drain()
        return await super().on_tick(counter)

    def _drain(self) -> None:
        pipeline = getattr(self._app.state, "pipeline", None)
        if pipeline is not None:
            pipeline.drain.begin()

    def _send_heartbeat(self, heartbeat: int) -> None:
        try:
            os.write(heartbeat, b".")
        except BlockingIOError:
            return  # the pipe is full: the supervisor has heartbeats to read
        except OSError:
            if not self.should_exit:
                logger.warning("the supervisor has exited: this process exits")
                self._drain()
                self.should_exit = True


def server_for(app: FastAPI, settings: Settings, heartbeat: int | None = None) -> RewardServer:
    """uvicorn, configured by `settings`."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        log_config=None,
        access_log=False,  # RequestContextMiddleware writes one without query strings, which may have keys
        server_header=False,
        http=LimitedHttpProtocol,
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.stop_timeout_s,
    )
    return RewardServer(config, app, heartbeat)


def serve(settings: Settings, channel: WorkerChannel | None = None) -> int:
    """Serve until a stop signal; returns the exit status. With `channel`, on the supervisor's socket.

    Raises:
        GlassboxError, ValueError: the service cannot start with these settings.
    """
    _allow_many_connections()
    set_batch()  # threads of models set the normal class
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # half a million objects of libraries, which a full collection would visit for a third of a second
    sockets = heartbeat = None
    if channel is not None:
        app.state.metrics.process_restarts(channel.restarts)
        sockets, heartbeat = [socket.socket(fileno=channel.listener)], channel.heartbeat
        os.set_blocking(heartbeat, False)
        for descriptor in (channel.listener, heartbeat):
            os.set_inheritable(descriptor, False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # handled by the supervisor
    server = server_for(app, settings, heartbeat)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets)
    if server.needs_restart:
        return RESTART_STATUS
    return 0 if server.started else 3


def _allow_many_connections() -> None:
    """Raise the limit of file descriptors: the usual 1,024 are fewer than the samples of one rollout."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
