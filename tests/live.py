"""The service on a separate socket, with stand-in models; and ways to talk to it that no library allows."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from reward_service.app import PROTOCOLS, create_app
from reward_service.models.protocols import GoldModel
from reward_service.process.server import server_for
from reward_service.protocols.base import EndpointSpec
from reward_service.settings import Settings
from tests.doubles import LengthGold, LetterEncoder

__all__ = ["Busy", "busy_service", "item", "metric", "posted", "raw", "serving", "until"]


@contextmanager
def serving(
    settings: Settings,
    encoder: LetterEncoder | None = None,
    protocols: Sequence[EndpointSpec[Any]] = PROTOCOLS,
    gold_loader: Callable[[Settings], GoldModel] = lambda _: LengthGold(),
    *,
    ready: bool = True,
) -> Iterator[str]:
    """Yields the URL, of a service that is ready unless `ready` is false."""
    app = create_app(
        settings,
        encoder_loader=lambda _: encoder or LetterEncoder(),
        gold_loader=gold_loader,
        protocols=protocols,
    )
    server = server_for(app, settings.model_copy(update={"port": 0, "stop_timeout_s": 5}))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    assert thread.is_alive(), "the server did not start"
    try:
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        if ready:
            until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        yield url
    finally:
        server.should_exit = True
        thread.join()


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once `true` is; fail after `seconds`."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "this never came true"
        time.sleep(0.01)


def metric(url: str, name: str, headers: dict[str, str] | None = None) -> float:
    """The value of a metric, summed over the series that begin with `name`."""
    text = httpx.get(f"{url}/metrics", headers=headers).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in re.findall(rf"^{re.escape(name)}.*$", text, re.MULTILINE))


def item(response: str = "a b c", **fields: Any) -> dict[str, Any]:
    return {"prompt": "a b c", "response": response} | fields


def posted(
    url: str,
    path: str,
    body: Any,
    headers: dict[str, str] | None = None,
    declared: int | None = None,
    method: str = "POST",
) -> socket.socket:
    """A connection on which a request was sent that claims a body of `declared` bytes; its answer is unread."""
    where = urlsplit(url)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {where.netloc}", f"Content-Length: {declared or len(content)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    connection = socket.create_connection((str(where.hostname), int(where.port or 80)), timeout=30)
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
    return connection


def raw(url: str, method: str, target: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """A request whose target is sent as it is spelt."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


@dataclass
class Busy:
    """A service whose encoder works on one request, until `release`."""

    url: str
    encoder: LetterEncoder
    pool: ThreadPoolExecutor
    waiting: list[Future[httpx.Response]] = field(default_factory=list)

    def post(self, path: str, body: Any, **headers: str) -> Future[httpx.Response]:
        """A request under way; its answer comes when it comes."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.pool.submit(httpx.post, f"{self.url}{path}", json=body, headers=names, timeout=30)

    def score(self, response: str, **headers: str) -> Future[httpx.Response]:
        return self.post("/score", {"items": [item(response)]}, **headers)

    def fill(self) -> None:
        """Send until the queue is full: the model is held, so that it stays full."""
        self.waiting += [self.score(f"filler {n}") for n in range(6)]
        done, _ = wait(self.waiting, timeout=20, return_when=FIRST_COMPLETED)
        assert {answer.result().status_code for answer in done} == {429}

    def waiting_texts(self) -> float:
        """Texts in the encoder's queue, whoever wants them; the one in the model is none of them."""
        return metric(self.url, 'glassbox_waiting_items{model="encoder"}')

    def release(self) -> None:
        assert self.encoder.gate is not None
        self.encoder.gate.set()

    def embedded(self, text: str) -> int:
        """How often the encoder was given `text`, all that was admitted before having been worked on."""
        self.release()
        self.score("the last one").result()
        return sum(call.count(text) for call in self.encoder.calls)


@contextmanager
def busy_service(
    kind: type[LetterEncoder] = LetterEncoder, protocols: Sequence[EndpointSpec[Any]] = PROTOCOLS, **settings: Any
) -> Iterator[Busy]:
    """A service whose encoder works on one request, until `release`."""
    gate = threading.Event()
    gate.set()
    encoder = kind(gate=gate)
    with serving(Settings(**settings), encoder, protocols) as url, ThreadPoolExecutor(20) as pool:
        busy = Busy(url, encoder, pool)
        encoder.calls.clear()
        gate.clear()
        first = busy.score("the first one")
        until(lambda: encoder.calls)
        try:
            yield busy
        finally:
            busy.release()
            first.result()
