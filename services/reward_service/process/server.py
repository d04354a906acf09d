"""The process that serves: uvicorn over the application. It drains before it stops, and gives signs of life.

signal ──▶ drain ──▶ uvicorn closes its listener, finishes what is in flight, ends
a model that is gone for good ──▶ the same, with the status that asks for another process
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
from reward_service.process.supervisor import BACKLOG, BROKEN, Lines
from reward_service.settings import Settings

__all__ = ["RewardServer", "serve", "server_for"]

KEEP_ALIVE_S = 25
"""Seconds that an idle connection stays open: longer than clients keep theirs (aiohttp 15), so that none of them
sends into one that is being closed here; less than a head may take, whose clock closes less politely."""
_TICKS_A_BEAT = 10
"""uvicorn ticks ten times a second."""

logger = logging.getLogger(__name__)


class RewardServer(uvicorn.Server):
    """Tells the application of a signal at once, and its supervisor that the event loop turns."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, beats: int | None = None) -> None:
        super().__init__(config)
        self.broken = False
        """Whether it stopped because a model is gone for good."""
        self._app = app
        self._beats = beats

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_BEAT == 0 and self._beats is not None:
            self._beat(self._beats)
        state = getattr(self._app.state, "glassbox", None)
        if state is not None and state.is_broken and not self.should_exit:
            logger.error("a model is gone for good: this process ends")
            self.broken = self.should_exit = True
            self._drain()
        return await super().on_tick(counter)

    def _drain(self) -> None:
        pipeline = getattr(self._app.state, "pipeline", None)
        if pipeline is not None:
            pipeline.drain.begin()

    def _beat(self, beats: int) -> None:
        try:
            os.write(beats, b".")
        except BlockingIOError:
            return  # nobody has read for an hour; there is a beat to be read
        except OSError:
            if not self.should_exit:
                logger.warning("the supervisor is gone: this process ends")
                self._drain()
                self.should_exit = True


def server_for(app: FastAPI, settings: Settings, beats: int | None = None) -> RewardServer:
    """uvicorn, as the settings want it."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        log_config=None,
        access_log=False,  # ours has the request's id, and no query, where somebody may have put a key
        server_header=False,
        http=LimitedHttpProtocol,
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.stop_timeout_s,
    )
    return RewardServer(config, app, beats)


def serve(settings: Settings, lines: Lines | None = None) -> int:
    """Serve until told to stop; the exit status. With `lines`, on the supervisor's socket.

    Raises:
        GlassboxError, ValueError: the settings are ones that it cannot start with.
    """
    _allow_many_connections()
    set_batch()  # models take theirs
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # half a million objects of libraries, which stay: to look through them took a third of a second
    sockets = beats = None
    if lines is not None:
        app.state.metrics.process_restarts(lines.restarts)
        sockets, beats = [socket.socket(fileno=lines.listener)], lines.beats
        os.set_blocking(beats, False)
        for descriptor in (lines.listener, beats):
            os.set_inheritable(descriptor, False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor's to heed
    server = server_for(app, settings, beats)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets)
    if server.broken:
        return BROKEN
    return 0 if server.started else 3


def _allow_many_connections() -> None:
    """Use as many file descriptors as the system allows: its usual 1,024 are fewer than one rollout's samples."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
