"""The state of the server: health, readiness, identity, versions, key, clock."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from pydantic import ValidationError

from reward_client import __version__
from reward_client.doctor.check import Check, failed, note, ok
from reward_client.doctor.exchange import NoReply, Reply, Service
from reward_client.urls import API_KEY_VARIABLE, ApiKey
from reward_client.wire import WIRE_VERSION, Info

CLOCK_S = 5.0
"""Seconds between two clocks above which the difference is noted."""
_WRONG_KEY = ApiKey("a-wrong-key-sent-by-glassbox-doctor-on-purpose")


def health(service: Service) -> Check:
    """GET /healthz: whether the server is ours and its event loop runs."""
    reply = service.get("/healthz", anonymous=True)
    subject = "health"
    if isinstance(reply, NoReply):
        return failed(subject, f"no answer: {reply.describe()}", _no_answer(reply))
    if reply.status == 200 and reply.json() == {"status": "alive"}:
        return ok(subject, f"alive ({reply.seconds * 1e3:.0f} ms)")
    return failed(subject, f"{_named(service)} answered {reply.describe()}", _other_server(service, reply))


def _no_answer(reply: NoReply) -> str:
    if "SSL" in reply.cause or "certificate" in reply.cause.lower():
        return "check the certificate: SSL_CERT_FILE names the file of an authority of your own"
    if "disconnected" in reply.cause.lower() or "protocol" in reply.kind.__name__.lower():
        return "the server does not speak HTTP here, or needs https:// instead of http:// in --url"
    return "the process hangs, or a proxy in between drops the request: look at the log of the service"


def _named(service: Service) -> str:
    return "the server" if service.proxy is None else "the proxy or the server"


def _other_server(service: Service, reply: Reply) -> str:
    """What to do about a reply that our service does not send."""
    if 300 <= reply.status < 400:
        target = re.sub(r"/healthz/?$", "", reply.headers.get("location", ""))
        return (
            f"set --url to {target or 'the address it redirects to'}: rewards are posted, and redirects lose them"
        )
    if reply.status == 407:
        return "the proxy needs a user and a password: http://USER:PASSWORD@PROXY in its variable"
    if service.proxy is not None:
        return f"the proxy {service.proxy.variable} answers in its place: set NO_PROXY={service.host}"
    if reply.is_html or reply.status in (502, 503, 504):
        return "a reverse proxy or another program answers there: correct host and port in --url, or its upstream"
    return "this is another server: correct host, port and path prefix in --url (the default port is 8000)"


def readiness(service: Service) -> Check:
    """GET /readyz: whether every model has just computed something."""
    reply = service.get("/readyz")
    subject = "readiness"
    if isinstance(reply, NoReply):
        return failed(subject, f"no answer: {reply.describe()}", "the models hang: look at the log of the service")
    if reply.status == 200:
        return ok(subject, f"every model works ({reply.seconds * 1e3:.0f} ms)")
    wait = reply.headers.get("retry-after")
    again = f"; the service asks to try again in {wait} s" if wait else ""
    return failed(
        subject,
        f"{reply.problem().detail}{again}",
        "wait if the models are loading, else correct what the cause names (the log of the service has it whole)",
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """The result of GET /info; `info` is absent when it cannot be read."""

    checks: list[Check]
    info: Info | None
    needs_key: bool = False


def identity(service: Service) -> Identity:
    """The key and the versions, from GET /info with the key, and without it."""
    reply = service.get("/info")
    if isinstance(reply, NoReply):
        return Identity([failed("info", f"no answer: {reply.describe()}", "see the log of the service")], None)
    if reply.status in (401, 403):
        return Identity([_refused(service, reply)], None, needs_key=True)
    if not reply.is_success:
        return Identity([failed("info", reply.describe(), _other_server(service, reply))], None)
    try:
        info = Info.model_validate_json(reply.body)
    except ValidationError as exc:
        found = f"GET /info is not the reply of this service ({exc.error_count()} fields are wrong)"
        return Identity([failed("info", found, _other_server(service, reply))], None)
    anonymous = service.get("/info", anonymous=True) if service.address.key else reply
    needs_key = isinstance(anonymous, Reply) and anonymous.status == 401
    return Identity([_accepted(service, needs_key), _versions(info), _clock(reply)], info, needs_key)


def _refused(service: Service, reply: Reply) -> Check:
    if reply.status == 403:
        return failed("API key", reply.describe(), "a proxy in front refuses the request: ask who runs it")
    if service.address.key is None:
        return failed(
            "API key",
            "the service needs a key, and none was given",
            f"export {API_KEY_VARIABLE}=… with a key of the service (its {API_KEY_VARIABLE}, or a line of its "
            "key file)",
        )
    return failed(
        "API key",
        "the service does not accept the key that was sent",
        f"compare {API_KEY_VARIABLE} here with the service's own key or key file; a key in --url takes precedence",
    )


def _accepted(service: Service, needs_key: bool) -> Check:
    if needs_key:
        return ok("API key", "the key is accepted, and requests without it are refused")
    if service.address.key is None:
        return note("API key", "none is needed: everyone who reaches the address may score")
    return note("API key", "the service needs none: the key that was sent is not looked at")


def _versions(info: Info) -> Check:
    found = f"service {info.version}, this client {__version__}, wire {info.wire_version}"
    if info.wire_version < WIRE_VERSION:
        return note("versions", f"{found}, this client speaks {WIRE_VERSION}", "update the service")
    if info.wire_version > WIRE_VERSION:
        return note("versions", f"{found}, this client speaks {WIRE_VERSION}", "update this package")
    if info.version != __version__:
        return note("versions", found, "install the same version on both sides, for the same documentation")
    return ok("versions", found)


def _clock(reply: Reply) -> Check:
    """The difference of the clocks, to a second: the header `Date` has no fractions."""
    try:
        there = parsedate_to_datetime(reply.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return note("clock", "the reply has no date")
    ahead = there + 0.5 - (reply.sent_at + reply.seconds / 2)
    if abs(ahead) <= CLOCK_S:
        return ok("clock", "differs by less than 2 s" if abs(ahead) < 2 else f"differs by {abs(ahead):.0f} s")
    direction = "ahead of" if ahead > 0 else "behind"
    return note(
        "clock",
        f"the service's clock is {abs(ahead):.0f} s {direction} this machine's (here {time.strftime('%H:%M:%S')})",
        "synchronise both (NTP): log lines and the ends of certificates are compared by it, deadlines are not",
    )


def wrong_key(service: Service, needs_key: bool) -> Check:
    """A request with a wrong key, sent on purpose: it must be refused where a key is needed."""
    subject = "wrong key"
    if not needs_key:
        return note(subject, "not refused, because the service needs no key")
    reply = service.get("/info", key=_WRONG_KEY)
    if isinstance(reply, Reply) and reply.status == 401:
        return ok(subject, f"refused: {reply.problem().detail.split(';')[0]}")
    return failed(subject, f"not refused: {reply.describe()}", "check the keys of the service and its proxy")
