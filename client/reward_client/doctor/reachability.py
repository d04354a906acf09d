"""Whether the address can be reached: proxy, name, connection, TLS; each step only if the one before succeeded.

URL ─▶ proxy of the environment? ─▶ the name has an address ─▶ a connection opens ─▶ its certificate is trusted
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx

from reward_client.doctor.check import Check, failed, note, ok, skipped
from reward_client.doctor.exchange import Service
from reward_client.errors import RewardError
from reward_client.network import is_loopback, trusted_certificates
from reward_client.urls import without_userinfo

STEP_S = 5.0
"""Seconds for the name, for the connection and for TLS, if the time for all checks has as many left."""
_LEAST_S = 0.1
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_SOON_DAYS = 14
"""Days before the end of a certificate from which on it is noted."""

ResultT = TypeVar("ResultT")


def reachability(service: Service) -> Iterator[Check]:
    """The checks in order; a failed one is the last."""
    if not service.limit.left_s():
        yield skipped("connection", "the time for all checks is over")
        return
    proxy = service.proxy
    url = httpx.URL(service.address.url)
    if proxy is not None:
        yield note(
            "proxy",
            f"requests go through {proxy.variable}={without_userinfo(str(proxy.url))}",
            f"if the service is in your own network, set NO_PROXY={service.host}",
        )
        url = proxy.url
    port = url.port or _PORTS.get(url.scheme, 80)
    where = f"{url.host}:{port}" if proxy is None else f"the proxy {url.host}:{port}"
    seconds = _step_s(service)
    address = _within(seconds, lambda: socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM))
    if isinstance(address, Exception):
        yield failed("name", f"{url.host} has no address: {_why(address, seconds)}", _correct(proxy is not None))
        return
    seconds = _step_s(service)
    connection = _within(seconds, lambda: _connect(url.host, port, seconds))
    if isinstance(connection, Exception):
        found = f"{where}: {_why(connection, seconds)}"
        yield failed("connection", found, _start(url, connection, proxy is not None))
        return
    opened, seconds = connection
    yield ok("connection", f"{where} accepts connections ({seconds * 1e3:.0f} ms)")
    with opened:
        if url.scheme == "https":
            yield _tls(opened, url.host, _step_s(service))
        elif proxy is not None and service.address.url.startswith("https"):
            yield note("TLS", "the certificate is checked when the proxy has connected")


def _step_s(service: Service) -> float:
    return max(_LEAST_S, min(STEP_S, service.limit.left_s()))


def _within(seconds: float, function: Callable[[], ResultT]) -> ResultT | Exception:
    """The result, or the exception, of what may block longer than a socket's timeout: resolving a name does."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except (OSError, UnicodeError) as exc:
            found.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds + 0.5)
    return found[0] if found else TimeoutError(f"no result within {seconds:g} s")


def _connect(host: str, port: int, seconds: float) -> tuple[socket.socket, float]:
    started = time.monotonic()
    connection = socket.create_connection((host, port), timeout=seconds)
    return connection, time.monotonic() - started


def _why(exc: Exception, seconds: float) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {seconds:.2g} s"
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def _correct(is_proxy: bool) -> str:
    return "correct the proxy in the environment" if is_proxy else "correct the host in --url"


def _start(url: httpx.URL, cause: Exception, is_proxy: bool) -> str:
    if is_proxy:
        return "correct the proxy in the environment, or set NO_PROXY"
    if isinstance(cause, TimeoutError):
        return "a firewall may drop the packets, or the host is wrong: try from the machine of the service"
    if is_loopback(url.host):
        return "start the service with `glassbox serve`, or correct --url"
    return (
        "start the service with `glassbox serve --host 0.0.0.0` and a key (without --host it listens on "
        "127.0.0.1 only), or correct --url"
    )


def _tls(connection: socket.socket, host: str, seconds: float) -> Check:
    connection.settimeout(seconds)
    try:
        context = trusted_certificates()
    except RewardError as exc:
        return failed("TLS", str(exc), "correct the variable")
    try:
        with context.wrap_socket(connection, server_hostname=host) as secured:
            return _certificate(secured.getpeercert() or {}, secured.version() or "TLS")
    except ssl.SSLCertVerificationError as exc:
        return failed(
            "TLS",
            f"the certificate is not trusted: {exc.verify_message}",
            "if its authority is your own, set SSL_CERT_FILE to the file with that authority's certificate",
        )
    except ssl.SSLError as exc:
        if exc.reason == "WRONG_VERSION_NUMBER":
            return failed("TLS", "the server does not speak TLS", "write http:// instead of https:// in --url")
        return failed("TLS", f"no TLS: {exc.reason or exc}", "check the TLS settings of the proxy in front of it")
    except OSError as exc:
        return failed("TLS", f"no TLS: {_why(exc, seconds)}", "check the TLS settings of the proxy in front of it")


def _certificate(certificate: dict[str, Any], version: str) -> Check:
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    found = f"{version}, the certificate is trusted until {ends:%Y-%m-%d}"
    if (ends - datetime.now(UTC)).days < _SOON_DAYS:
        return note("TLS", found, "renew the certificate")
    return ok("TLS", found)
