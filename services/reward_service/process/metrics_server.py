"""The metrics on a port of their own: without a key, from threads, also while the event loop is busy.

    accept ─▶ one of at most eight connections ─▶ a thread reads the head ─▶ exposition (kept a second) ─▶ closed
              the oldest of the address that has most is closed for a ninth         all within five seconds

The port may be open to a network whose other users are no scrapers: whatever they send takes eight threads and
descriptors, and no more processor time than one exposition a second.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast

from reward_service.telemetry.metrics import EXPOSITION_TYPE

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 8
"""Connections at a time; Prometheus and its replicas have one each, for some milliseconds."""
TIMEOUT_S = 5.0
"""Seconds in which a connection is answered, or closed."""
KEPT_S = 1.0
"""Seconds for which an exposition is kept; scrapers come every few seconds."""
_CHECK_S = 0.5
"""Seconds between two looks at the age of the connections."""


@dataclass(frozen=True, slots=True, eq=False)
class _Connection:
    socket: socket.socket
    address: str
    opened: float


class MetricsServer(HTTPServer):
    """Answers every GET and HEAD with `exposition()`. Raises OSError if the address is not available."""

    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, exposition: Callable[[], bytes], host: str, port: int) -> None:
        self._exposition = exposition
        self._making = threading.Lock()
        self._made: tuple[float, bytes | str] | None = None
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(MAX_CONNECTIONS)
        self._open: list[_Connection] = []
        """In the order in which they were opened."""
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), _Handler)
        except OSError as exc:
            raise OSError(exc.errno, f"cannot serve metrics on {host}:{port}: {exc.strerror}") from exc

    def start(self) -> None:
        """Serve from a daemon thread."""
        threading.Thread(target=self.serve_forever, args=[_CHECK_S], name="metrics", daemon=True).start()

    def exposition(self) -> bytes | str:
        """The metrics of the last second; text if they could not be made then."""
        with self._making:
            now = time.monotonic()
            if self._made is None or now - self._made[0] > KEPT_S:
                self._made = now, self._make()
            return self._made[1]

    def _make(self) -> bytes | str:
        try:
            return self._exposition()
        except Exception as exc:
            logger.exception("the metrics could not be made")
            return f"the metrics could not be made ({type(exc).__name__}); the service's log has the trace\n"

    # `HTTPServer` -----------------------------------------------------------------------------------------------

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super(HTTPServer, self).server_bind()  # HTTPServer's looks up the name of the host
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a new connection in a thread; for a ninth, another is closed."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                n_of = Counter(one.address for one in self._open)
                _interrupt(max(self._open, key=lambda one: n_of[one.address]))
        self._slots.acquire()  # soon: the thread of the interrupted connection ends
        connection = _Connection(request, str(client_address[0]), time.monotonic())
        with self._lock:
            self._open.append(connection)
        try:
            threading.Thread(target=self._answer, args=[connection, client_address], daemon=True).start()
        except RuntimeError:  # the process may have no more threads: `socketserver` closes the connection
            self._release(connection)
            raise

    def service_actions(self) -> None:
        """Close what is not answered in time, however slowly it sends or reads."""
        oldest = time.monotonic() - TIMEOUT_S
        with self._lock:
            for connection in self._open:
                if connection.opened < oldest:
                    _interrupt(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that its client or this server has closed is no error."""

    def _answer(self, connection: _Connection, client_address: Any) -> None:
        try:
            with suppress(OSError):  # closed by its client, or interrupted
                self.finish_request(connection.socket, client_address)
        finally:
            self._release(connection)

    def _release(self, connection: _Connection) -> None:
        """Close `connection`, whose place another may have then."""
        with self._lock:
            self._open.remove(connection)
        self.shutdown_request(connection.socket)
        self._slots.release()


def _interrupt(connection: _Connection) -> None:
    """End what its thread waits for."""
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        """The metrics, at any path."""
        self.wfile.write(self._head())

    def do_HEAD(self) -> None:
        """What a GET has before the metrics."""
        self._head()

    def _head(self) -> bytes:
        """Send the head of the reply; its body."""
        status, media_type = HTTPStatus.OK, EXPOSITION_TYPE
        body = cast(MetricsServer, self.server).exposition()
        if isinstance(body, str):
            status, media_type, body = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", body.encode()
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base class
        """Scrapes are not logged."""
