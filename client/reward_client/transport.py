"""The synchronous client's transport: a connection pool whose sockets respect the time budget of the attempt.

    httpx.Client ──▶ DeadlineTransport ──▶ httpcore.ConnectionPool ──▶ sockets ── timeouts.current_budget

httpx gives no access to the sockets of its transport. This one uses the public interfaces of httpx (a custom
transport) and of httpcore (a network backend).
"""

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from reward_client.network import Proxy, trusted_certificates
from reward_client.timeouts import Phase, current_budget

_PIECE_BYTES = 16 * 1024
"""Bytes written between two checks of the budget: a socket may accept a few bytes at a time."""

_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class DeadlineTransport(httpx.BaseTransport):
    """Sends requests over a pool of connections; each phase ends with the budget of its attempt.

    Args:
        limits: of the pool.
        proxy: to send requests through.
        ssl_context: the trusted certificates of the environment when None.
        socket_options: for new sockets, as arguments of setsockopt.
    """

    def __init__(
        self,
        limits: httpx.Limits = httpx.Limits(),  # noqa: B008 - immutable
        *,
        proxy: Proxy | None = None,
        ssl_context: ssl.SSLContext | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "ssl_context": ssl_context or trusted_certificates(),
            "max_connections": limits.max_connections,
            "max_keepalive_connections": limits.max_keepalive_connections,
            "keepalive_expiry": limits.keepalive_expiry,
            "network_backend": _Backend(),
        }
        self._pool: httpcore.ConnectionPool
        if proxy is None:
            self._pool = httpcore.ConnectionPool(socket_options=socket_options, **options)
        else:
            parsed = httpx.Proxy(proxy.url)
            if parsed.url.scheme == "https":
                options["proxy_ssl_context"] = options["ssl_context"]
            pool = httpcore.SOCKSProxy if proxy.is_socks else httpcore.HTTPProxy
            self._pool = pool(str(parsed.url), proxy_auth=parsed.raw_auth, **options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the body of the response is read from its stream."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        with _httpx_errors():
            response = self._pool.handle_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=dict(response.extensions),
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise the errors of httpcore as those of httpx, which have the same names."""
    try:
        yield
    except _FAILURES as exc:
        raise getattr(httpx, type(exc).__name__, httpx.TransportError)(str(exc)) from exc


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


# Sockets ------------------------------------------------------------------------------------------------------


@contextmanager
def _bounded(phase: Phase, timeout: float | None) -> Iterator[float | None]:
    """Timeout for one operation of a socket. Raises httpx.TimeoutException when the time of `phase` is over."""
    budget = current_budget.get()
    if budget is None:
        yield timeout
        return
    left_s = budget.check(phase)
    try:
        yield left_s if timeout is None else min(left_s, timeout)
    except httpcore.TimeoutException as exc:
        raise budget.error() from exc


class _Backend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        with _bounded("connect", timeout) as seconds:
            return _Stream(self._inner.connect_tcp(host, port, seconds, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _bounded("read", timeout) as seconds:
            return self._inner.read(max_bytes, seconds)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE_BYTES):
            with _bounded("write", timeout) as seconds:
                self._inner.write(buffer[start : start + _PIECE_BYTES], seconds)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        with _bounded("connect", timeout) as seconds:
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
