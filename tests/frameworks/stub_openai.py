"""A chat-completions endpoint of a model that answers each question with its answer. Standard library only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}


@contextmanager
def model_that_answers(
    answers: Mapping[str, str], before_first: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """Base URL of a model; `answers` by a part of the conversation. `before_first` is called before the first."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answers, before_first))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(answers: Mapping[str, str], before_first: Callable[[], object]) -> type[BaseHTTPRequestHandler]:
    first, lock = [before_first], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked = json.dumps(body["messages"])
            text = next(answer for question, answer in answers.items() if question in asked)
            with lock:
                if first:
                    first.pop()()
            kind, content = _completion(text, body)
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: Any) -> None:
            """No access log."""

    return Handler


def _completion(text: str, body: Mapping[str, Any]) -> tuple[str, str]:
    """Content type and body, streamed if `stream` is set."""
    message = {"role": "assistant", "content": text}
    head = {"id": "c1", "created": 1, "model": body.get("model", "stub")}
    if not body.get("stream"):
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        reply = {**head, "object": "chat.completion", "usage": USAGE, "choices": [choice]}
        return "application/json", json.dumps(reply)
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE},
    ]
    events = [json.dumps({**head, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    return "text/event-stream", "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
