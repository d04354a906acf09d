"""The fake service of `evidence_run` behind HTTP, for tests of the command."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from reward_client.wire import ScoreRequest
from tests.unit.evidence_run import Service, info


class Handler(BaseHTTPRequestHandler):
    """The endpoints of the reward service that an evaluation uses."""

    service = Service()

    def do_GET(self) -> None:
        self._reply(info().model_dump_json() if self.path == "/info" else '{"status": "ready"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        request = ScoreRequest.model_validate_json(body)
        reply = self.service.score(request.items, recipe=request.recipe, gold=request.gold, step=request.step)
        self._reply(reply.model_dump_json())

    def _reply(self, body: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: Any) -> None:
        """Write no access log."""


@pytest.fixture
def service_url() -> Iterator[str]:
    """URL of the running fake service."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
