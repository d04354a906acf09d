"""Who may come in: API keys, checked before a byte of a body is read.

    Authorization: Bearer KEY ─┐
    X-API-Key: KEY             ├──▶ Keyring.accepts ──▶ the service        (else 401, a problem document)
    http://any:KEY@host/…      ┘    (the password of HTTP Basic: for clients that know only a URL)

Every path needs a key but those in `OPEN`, compared letter for letter: what is spelt another way needs one too.
Only digests of keys are kept, and every one of them is compared, in constant time. The file is read again when it
changes; a file that has become unusable is reported, and the keys that were good before stay in force.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from reward_service.errors import ConfigurationError
from reward_service.http.problems import problem_response
from reward_service.settings import Settings
from reward_service.telemetry.admission_metrics import AdmissionMetrics

__all__ = ["OPEN", "Guard", "Keyring", "keyring", "presented_keys"]

logger = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz"})
"""Health checks come from load balancers and container engines, which know no key."""

_CHALLENGE = 'Basic realm="glassbox", charset="UTF-8", Bearer realm="glassbox"'
_HOW = "send an API key as `Authorization: Bearer KEY`, as `X-API-Key: KEY`, or in the URL: http://key:KEY@HOST/…"


def keyring(settings: Settings) -> Keyring | None:
    """The keys that `settings` name; None when everybody may come in.

    Raises:
        ConfigurationError: the file is unusable, or others than this machine could come in without a key.
    """
    single = settings.api_key.get_secret_value().strip() if settings.api_key else ""
    if single or settings.api_keys_file:
        return Keyring(single, settings.api_keys_file)
    if not settings.allow_anonymous and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"host {settings.host!r} can be reached from other machines: set an API key (GLASSBOX_API_KEY, or a "
            "file of them in GLASSBOX_API_KEYS_FILE), or let everybody in with --allow-anonymous "
            "(GLASSBOX_ALLOW_ANONYMOUS=true)"
        )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may resolve to anything; "" is every address
        return False


class Keyring:
    """The keys that open the door, as digests."""

    def __init__(self, single: str, file: Path | None) -> None:
        self._own = _digests([single], "GLASSBOX_API_KEY") if single else []
        self._file = file
        self._stamp = _stamp(file)
        self._said = ""
        self._digests = self._own + self._read()

    def __repr__(self) -> str:
        return f"Keyring({len(self._digests)} keys)"

    def accepts(self, presented: Iterable[bytes]) -> bool:
        """Whether one of `presented` is a key. The time it takes tells nothing of how near a wrong one came."""
        self._refresh()
        found = False
        for candidate in presented:
            digest = sha256(candidate).digest()
            for key in self._digests:
                found |= hmac.compare_digest(digest, key)
        return found

    def _refresh(self) -> None:
        """Read the file again when it has changed. The keys of before stay when it cannot be used."""
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            self._said = ""
            return
        try:
            self._digests = self._own + self._read()
        except ConfigurationError as exc:  # the next request tries again: what stood in the way may be gone
            if str(exc) != self._said:
                logger.error("the API keys of before stay in force: %s", exc)  # noqa: TRY400 (a trace says no more)
            self._said = str(exc)
        else:
            self._stamp, self._said = stamp, ""
            logger.info("API keys were read again: %d in force", len(self._digests))

    def _read(self) -> list[bytes]:
        if self._file is None:
            return []
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            reason = (
                exc.strerror if isinstance(exc, OSError) else "it is no UTF-8 text"
            )  # str(exc) may quote a key
            raise ConfigurationError(f"the file of API keys {self._file} cannot be read: {reason}") from None
        keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        if not keys:
            raise ConfigurationError(
                f"the file of API keys {self._file} holds no key: one a line, `#` for comments"
            )
        return _digests(keys, str(self._file))


def _digests(keys: Sequence[str], source: str) -> list[bytes]:
    """Raises ConfigurationError for what cannot travel in a header; it says where, never what."""
    for number, key in enumerate(keys, start=1):
        if not all("!" <= char <= "~" for char in key):
            raise ConfigurationError(f"key {number} of {source} has other than printable ASCII characters in it")
    return [sha256(key.encode()).digest() for key in keys]


def _stamp(file: Path | None) -> tuple[int, ...]:
    """What differs when `file` was written or replaced."""
    if file is None:
        return ()
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def presented_keys(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Every key in `headers`, in any of the three places."""
    for name, value in headers:
        if name == b"x-api-key":
            yield value.strip()
        elif name == b"authorization":
            scheme, _, credentials = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                yield credentials.strip()
            elif scheme.lower() == b"basic":
                yield from _password(credentials.strip())


def _password(credentials: bytes) -> Iterator[bytes]:
    try:
        _, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
    except binascii.Error:
        return
    if colon:
        yield password


class Guard:
    """Lets in who has a key, and everybody to `OPEN`; pure ASGI, so that nothing is read before."""

    def __init__(self, app: ASGIApp, keys: Keyring | None, metrics: AdmissionMetrics) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http" or self._may_enter(scope):
            await self._app(scope, receive, send)
        else:
            self._metrics.refused("unknown", "unauthorized")
            given = any(name in {b"authorization", b"x-api-key"} for name, _ in scope["headers"])
            detail = f"{'this key is not accepted' if given else 'a key is needed'}; {_HOW}"
            await problem_response(401, detail, headers={"www-authenticate": _CHALLENGE})(scope, receive, send)

    def _may_enter(self, scope: Scope) -> bool:
        if self._keys is None or scope["path"] in OPEN:
            return True
        return self._keys.accepts(presented_keys(scope["headers"]))
