"""A server in a thread that answers each request with the status and the JSON that a function makes of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Received", "completions_server", "json_server"]


@dataclass(frozen=True, slots=True)
class Received:
    """A request."""

    method: str
    path: str
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def json_server(
    answer: Callable[[Received], tuple[int, Any]], headers: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Yields the URL. `answer` returns a status and a value, which is sent as JSON, or bytes as they are."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(b"")

        def do_HEAD(self) -> None:
            self._reply(b"")

        def do_POST(self) -> None:
            self._reply(self.rfile.read(int(self.headers["content-length"])))

        def _reply(self, received: bytes) -> None:
            status, content = answer(Received(self.command, self.path, self.headers, received))
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def completions_server(answer: Callable[[Received], tuple[int, Any]]) -> AbstractContextManager[str]:
    """A server of OpenAI's API: `answer` gets the POST requests, and there is no list of models."""
    return json_server(lambda received: answer(received) if received.method == "POST" else (404, {}))
