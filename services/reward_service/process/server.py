"""The worker process: uvicorn with the application, a heartbeat to the supervisor, and a drain before it stops.

SIGTERM, SIGINT ─────────────▶ drain ─▶ uvicorn closes its listener, finishes the requests in flight, exits
a model failed permanently ──▶ the same, with the exit status that makes the supervisor start another worker
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from reward_service.app import create_app, import_model_libraries
from reward_service.errors import NotReadyError
from reward_service.process.connection_limits import LimitedHttpProtocol
from reward_service.process.connections import Connections, raise_descriptor_limit
from reward_service.process.cpu_scheduling import set_batch
from reward_service.process.metrics_server import MetricsServer
from reward_service.process.supervisor import BACKLOG, EXIT_BROKEN, WorkerChannel, listen, url_of
from reward_service.settings import Settings

KEEP_ALIVE_S = 25
"""Seconds that an idle connection stays open: longer than clients keep theirs (aiohttp 15), so that a client does
not send a request on a connection that the service is closing; less than `MAX_HEAD_S`, after which the connection
is aborted instead of closed."""
EXIT_GRACE_S = 3.0
"""Seconds in addition to `stop_timeout_s` in which models and threads end; then the process ends without them."""
_TICKS_PER_S = 10
"""uvicorn calls `on_tick` ten times a second."""
_COLLECT_IDLE_S, _COLLECT_BUSY_S = 5, 600
"""Seconds between two full garbage collections, with no request in flight, and at most."""
_SWITCH_S = 0.0005
"""Seconds after which a thread that runs Python gives the interpreter's lock to the event loop, which needs it
several times for each request; 5 ms by default."""

logger = logging.getLogger(__name__)


class RewardServer(uvicorn.Server):
    """uvicorn's server, with a drain as soon as a signal arrives and a heartbeat from the event loop."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, heartbeat: int | None = None) -> None:
        super().__init__(config)
        self.broken = False
        """Whether the server stopped because a model failed permanently."""
        self._app = app
        self._heartbeat = heartbeat
        self._collected = time.monotonic()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announcement = asyncio.create_task(self._announce(), name="announcement")

    async def _announce(self) -> None:
        """Log that the service is ready, once all models are loaded; causes of failures are logged elsewhere."""
        with contextlib.suppress(NotReadyError):
            await self._app.state.glassbox.loaded()
            if not self.should_exit:  # its sockets may be closed
                logger.info("ready: %s", url_of(self.servers[0].sockets[0]))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain()
        if not self.should_exit:
            seconds = (self.config.timeout_graceful_shutdown or 0) + EXIT_GRACE_S
            timer = threading.Timer(seconds, _end_process, [seconds])
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_S == 0 and self._heartbeat is not None:
            self._send_heartbeat(self._heartbeat)
        due_s = _COLLECT_BUSY_S if self.server_state.tasks else _COLLECT_IDLE_S
        if time.monotonic() - self._collected >= due_s:
            _collect_garbage()
            self._collected = time.monotonic()
        state = getattr(self._app.state, "glassbox", None)
        if state is not None and state.is_broken and not self.should_exit:
            logger.error("a model failed permanently: stopping this worker")
            self.broken = self.should_exit = True
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
            return  # the pipe is full, because the supervisor is suspended: unread heartbeats are enough
        except OSError:
            if not self.should_exit:
                logger.warning("the supervisor has ended: stopping this worker")
                self._drain()
                self.should_exit = True


def _end_process(seconds: float) -> None:
    logger.error("the process did not end in %g s after the signal to stop: ending it", seconds)
    os._exit(1)


def server_for(app: FastAPI, settings: Settings, heartbeat: int | None = None) -> RewardServer:
    """Create the server of `app`; `heartbeat` is a file descriptor."""
    connections = Connections(settings.max_connections, raise_descriptor_limit(), app.state.metrics)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning" if settings.log_level == "info" else settings.log_level,  # the service logs its start
        log_config=None,
        access_log=False,  # the service's access log has the request id, and omits the query, which may hold a key
        server_header=False,
        http=cast(type[asyncio.Protocol], partial(LimitedHttpProtocol, connections=connections)),
        ws="none",
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.stop_timeout_s,
    )
    return RewardServer(config, app, heartbeat)


def _collect_garbage() -> None:
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(
            0
        )  # returns freed memory of large requests, which may be hundreds of megabytes


def shorten_pauses() -> None:
    """Make the interpreter stop the event loop for short times only. Call it when modules are imported.

    A full garbage collection examines the items of all requests, in a quarter of a second if they are many; so
    `RewardServer` makes them, when there are few.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()  # half a million objects of imported libraries
    gc.set_threshold(1_000, 10, 1_000_000)


def serve(settings: Settings, channel: WorkerChannel | None = None) -> int:
    """Serve until a stop signal arrives and return the exit status; with `channel`, on the supervisor's socket.

    Raises:
        GlassboxError, ValueError, OSError: the service cannot start with these settings.
    """
    set_batch()  # threads of models use set_normal
    app = create_app(settings)
    import_model_libraries(settings)
    if settings.metrics_port is not None:
        MetricsServer(app.state.metrics.exposition, settings.host, settings.metrics_port).start()
    shorten_pauses()
    heartbeat = None
    if channel is None:
        sockets = [listen(settings)]
    else:
        app.state.metrics.process_restarts(channel.restarts)
        sockets, heartbeat = [socket.socket(fileno=channel.listener)], channel.heartbeat
        os.set_blocking(heartbeat, False)
        for descriptor in (channel.listener, heartbeat):
            os.set_inheritable(descriptor, False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor handles it
    server = server_for(app, settings, heartbeat)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets)
    if server.broken:
        return EXIT_BROKEN
    return 0 if server.started else 3
