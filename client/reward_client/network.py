"""What the environment says about the network: proxies and trusted certificates.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY   proxy for URLs of that scheme; lower-case names take precedence
    NO_PROXY                             hosts, domains, addresses and networks that are reached directly
    SSL_CERT_FILE, SSL_CERT_DIR          trusted certificates instead of certifi's, for https only

Loopback is always reached directly: a proxy would connect to its own machine, and receive the API key.
"""

import os
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.request import getproxies

import certifi
import httpx

from reward_client.errors import RewardError
from reward_client.urls import without_userinfo

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_PROXY_ENTRY = re.compile(
    r"(?:(?P<scheme>\w+)://)?"
    r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<host>[^:/\[]*|[^:/\[]*(?::[^:/\[]*){2,}))"
    r"(?P<bits>/\d+)?(?::(?P<port>\d+))?"
)
_CERTIFICATES = (
    ("SSL_CERT_FILE", "file", Path.is_file, "cafile"),
    ("SSL_CERT_DIR", "folder", Path.is_dir, "capath"),
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy of the environment."""

    url: httpx.URL
    variable: str
    """The variable that names it."""

    @property
    def is_socks(self) -> bool:
        """Whether it is no HTTP proxy."""
        return self.url.scheme.startswith("socks")

    def for_httpx(self, context: ssl.SSLContext) -> httpx.Proxy:
        """The proxy as an argument for httpx; `context` has the trusted certificates."""
        return httpx.Proxy(self.url, ssl_context=context if self.url.scheme == "https" else None)


def proxies_for(urls: Sequence[str]) -> dict[str, Proxy]:
    """The proxies of those `urls` that are not reached directly, by origin. Raises RewardError for a wrong one."""
    found = ((httpx.URL(url), _proxy(httpx.URL(url))) for url in urls)
    return {f"{url.scheme}://{url.netloc.decode()}": proxy for url, proxy in found if proxy is not None}


def trusted_certificates() -> ssl.SSLContext:
    """A context with the trusted certificates. Raises RewardError with the variable that names unusable ones."""
    for variable, kind, exists, argument in _CERTIFICATES:
        if not (path := os.environ.get(variable)):
            continue
        if not exists(Path(path)):
            raise RewardError(f"{variable}={path}: there is no such {kind}")
        try:
            return ssl.create_default_context(**{argument: path})  # type: ignore[arg-type]
        except OSError as exc:  # includes ssl.SSLError
            raise RewardError(f"{variable}={path} has no certificates that can be read: {exc}") from exc
    return ssl.create_default_context(cafile=certifi.where())


def _proxy(url: httpx.URL) -> Proxy | None:
    """The proxy for `url`; None when it is reached directly."""
    proxies = getproxies()
    scheme = next((name for name in (url.scheme, "all") if proxies.get(name)), None)
    if scheme is None or is_loopback(url.host) or _is_excluded(url, proxies.get("no", "")):
        return None
    variable, text = _variable(f"{scheme}_proxy"), proxies[scheme]
    shown = f"{variable}={without_userinfo(text)}"
    try:
        parsed = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL:
        raise RewardError(f"{shown} is not the URL of a proxy") from None
    if parsed.scheme not in _PROXY_SCHEMES or not parsed.host:
        raise RewardError(f"{shown} is not the URL of a proxy: it must begin with {', '.join(_PROXY_SCHEMES)}")
    proxy = Proxy(parsed, variable)
    if proxy.is_socks and find_spec("socksio") is None:
        raise RewardError(f"{shown}: a SOCKS proxy needs the package socksio (pip install 'httpx[socks]')")
    return proxy


def _variable(name: str) -> str:
    """The name under which the environment has the variable."""
    return name if name in os.environ else name.upper()


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, whatever network it is in."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_excluded(url: httpx.URL, no_proxy: str) -> bool:
    entries = (entry.strip() for entry in no_proxy.split(","))
    return any(entry == "*" or _matches(url, entry) for entry in entries if entry)


def _matches(url: httpx.URL, entry: str) -> bool:
    """Whether an entry of NO_PROXY means `url`: a name with its subdomains, an address or a network."""
    parts = _NO_PROXY_ENTRY.fullmatch(entry)
    if parts is None or parts["scheme"] not in (None, "all", url.scheme):
        return False
    if parts["port"] and int(parts["port"]) != (url.port or _DEFAULT_PORTS[url.scheme]):
        return False
    excluded, host = parts["bracketed"] or parts["host"], url.host.lower().rstrip(".")
    try:
        network = ip_network(excluded + (parts["bits"] or ""), strict=False)
    except ValueError:
        name = excluded.lower().removeprefix("*").strip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return ip_address(host) in network
    except ValueError:
        return False


def free_port() -> int:
    """A TCP port of the loopback interface that no process uses, for a server that is started at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
