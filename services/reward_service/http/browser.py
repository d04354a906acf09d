"""Refuses requests that a web page of another site makes a browser send.

    Host             not a loopback name, without an API key on loopback; or not in `allowed_hosts`  ─▶ 421
                     (never for health checks, nor for `/metrics` with an API key)
    Sec-Fetch-Site   anything but `same-origin` or `none`, except a click on a link to a page        ─▶ 403
    Origin           of another host, from a browser without `Sec-Fetch-Site` (plain HTTP)           ─▶ 403
    Content-Type     of a POST not `application/json`: others can be sent across sites unasked       ─▶ 415

A browser sends a POST with a content type of forms, or without one, to any site, with the password that it has
stored for that site; the page cannot read the reply, but the request is scored. A page can read the reply if its
name resolves to 127.0.0.1 (DNS rebinding); its requests then have its name as `Host`. Source of the rules for
`Sec-Fetch-Site` and `Origin`: `CrossOriginProtection` of Go's net/http.

Programs send neither `Sec-Fetch-Site` nor `Origin`. Theirs may have no content type: it counts as JSON.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import Scope

from reward_service.errors import ConfigurationError, CrossSiteError, MediaTypeError, UnknownHostError
from reward_service.http.auth import OPEN_PATHS, is_loopback
from reward_service.http.request_context import RequestContext
from reward_service.settings import Settings

_NETLOC = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]*)?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The usual loopback names, which need not be parsed."""
_OWN_SITES = frozenset({b"same-origin", b"none"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def _allowed_hosts(settings: Settings) -> frozenset[str]:
    """The hosts of the setting. Raises ConfigurationError if one is malformed."""
    names = [name.strip() for name in (settings.allowed_hosts or "").split(",") if name.strip()]
    for name in names:
        if not _host(name):
            raise ConfigurationError(
                f"allowed_hosts has {name!r}: a name like reward.example or [2001:db8::1] is needed"
            )
    return frozenset(map(_host, names))


class BrowserCheck:
    """Checks the headers of a request."""

    def __init__(self, settings: Settings, *, with_keys: bool) -> None:
        self._only_loopback = not with_keys and is_loopback(settings.host)
        self._allowed = _allowed_hosts(settings)
        self._own_hosts = self._allowed | (_LOOPBACK if self._only_loopback else frozenset())
        self._any_host = OPEN_PATHS | ({"/metrics"} if with_keys else set())

    def __call__(self, scope: Scope, context: RequestContext) -> None:
        """Raise one of the errors above."""
        method, headers = scope["method"], context.headers
        if self._own_hosts and context.path not in self._any_host:
            self._check_host(headers)
        if b"sec-fetch-site" in headers or b"origin" in headers:
            self._check_site(method, headers)
            if method == "POST" and b"content-type" not in headers:
                raise MediaTypeError("send the header `Content-Type: application/json`")
        if method == "POST" and b"content-type" in headers:
            _check_media_type(headers[b"content-type"])

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        given = headers.get(b"host")
        if given is None:  # no browser: HTTP/1.0, as health checks of load balancers send it
            return
        host = _host(given.decode("latin-1"))
        if host in self._own_hosts or (self._only_loopback and is_loopback(host)):
            return
        needed = "localhost or 127.0.0.1" if self._only_loopback else "a name in allowed_hosts"
        raise UnknownHostError(
            f"this service does not answer for the host in the header `Host`: send {needed}, or add the name to "
            "allowed_hosts (GLASSBOX_ALLOWED_HOSTS)"
        )

    def _check_site(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        site = headers.get(b"sec-fetch-site")
        if site in _OWN_SITES:
            return
        if site is not None:
            is_link = method == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"
            refused = not (is_link and headers.get(b"sec-fetch-dest") == b"document")
        else:
            refused = method not in _READING and not self._is_own_origin(headers)
        if refused:
            raise CrossSiteError("requests that a page of another origin sends are refused; call from a program")

    def _is_own_origin(self, headers: Mapping[bytes, bytes]) -> bool:
        try:
            origin = urlsplit(headers[b"origin"].decode("latin-1")).netloc.lower()
        except ValueError:
            return False
        return origin == headers.get(b"host", b"").decode("latin-1").lower() or _host(origin) in self._allowed


def _check_media_type(value: bytes) -> None:
    if value.partition(b";")[0].strip().lower() != b"application/json":
        raise MediaTypeError(
            "this content type is not supported: send JSON with the header `Content-Type: application/json`"
        )


def _host(netloc: str) -> str:
    """The host of `HOST:PORT` or `[ADDRESS]:PORT`, in lower case; empty if it is malformed."""
    found = _NETLOC.fullmatch(netloc.strip().lower())
    return (found["address"] or found["name"].removesuffix(".")) if found else ""
