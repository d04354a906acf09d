"""Authentication by API keys, before any byte of a body is read.

    Authorization: Bearer KEY ─┐
    X-API-Key: KEY             ├──▶ Keyring.accepts ──▶ the service        (otherwise 401 with a problem document)
    http://any:KEY@host/…      ┘    (the password of HTTP Basic, for clients that are configured by a URL alone)

Every path needs a key, except those in `OPEN_PATHS` and the page at `/`, which are compared literally. The page is
HTML without data; it asks for the key and sends it with its own requests. Keys are kept as digests and compared in
constant time. The key file is read again when it changes; if it has become unusable, that is logged and the
previous keys stay valid.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
import stat
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path

from starlette.types import Scope

from reward_client.wire.api_key import key_problem
from reward_service.errors import ConfigurationError, UnauthorizedError
from reward_service.http.request_context import RequestContext
from reward_service.settings import Settings

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/health"})
"""Paths without authentication: load balancers and container engines send health checks without a key."""

MAX_PRESENTED = 4
"""Keys that one request may present: each is compared with every valid key. A client sends one, a browser two."""
_PAGE = "/"
_HELP = "send an API key as `Authorization: Bearer KEY`, as `X-API-Key: KEY`, or in the URL: http://key:KEY@HOST/…"


def keyring(settings: Settings) -> Keyring | None:
    """The API keys that `settings` name; None if authentication is off.

    Raises:
        ConfigurationError: the key file is unusable, or other machines can reach the address and neither a key nor
            `allow_anonymous` is set.
    """
    single = settings.api_key.get_secret_value() if settings.api_key else ""
    if single or settings.api_keys_file:
        return Keyring(single, settings.api_keys_file)
    if not settings.allow_anonymous and not is_loopback(settings.host):
        raise ConfigurationError(
            f"host {settings.host!r} can be reached from other machines: set an API key (GLASSBOX_API_KEY, or a "
            "file of them in GLASSBOX_API_KEYS_FILE), or serve without authentication with --allow-anonymous "
            "(GLASSBOX_ALLOW_ANONYMOUS=true)"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name, which may resolve to any address; "" means every address
        return False


class Keyring:
    """The accepted API keys, as digests."""

    def __init__(self, single: str, file: Path | None) -> None:
        self._fixed = _digests([single], "GLASSBOX_API_KEY") if single else []
        self._file = file
        self._stamp = _stamp(file)
        self._logged_error = ""
        self._digests = self._fixed + self._read()

    def __repr__(self) -> str:
        return f"Keyring({len(self._digests)} keys)"

    def find(self, presented: Iterable[bytes]) -> bytes | None:
        """The digest of the first valid key among `presented`, or None; compares in constant time.

        Raises UnauthorizedError for more keys than `MAX_PRESENTED`.
        """
        self._refresh()
        found, candidates = None, list(islice(presented, MAX_PRESENTED + 1))
        if len(candidates) > MAX_PRESENTED:
            raise UnauthorizedError(f"the request presents more than {MAX_PRESENTED} API keys: send one")
        for candidate in candidates:
            digest = sha256(candidate).digest()
            for key in self._digests:
                if hmac.compare_digest(digest, key) and found is None:
                    found = digest
        return found

    def _refresh(self) -> None:
        """Read the key file again if it has changed; if it is unusable, the previous keys stay valid."""
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            self._logged_error = ""
            return
        try:
            self._digests = self._fixed + self._read()
        except ConfigurationError as exc:  # the next request tries again
            if str(exc) != self._logged_error:
                logger.error("the previous API keys stay valid: %s", exc)  # noqa: TRY400 (a traceback adds nothing)
            self._logged_error = str(exc)
        else:
            self._stamp, self._logged_error = stamp, ""
            logger.info("read the API keys again: %d keys", len(self._digests))

    def _read(self) -> list[bytes]:
        if self._file is None:
            return []
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            reason = (
                exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
            )  # str(exc) may quote a key
            raise ConfigurationError(f"the file of API keys {self._file} cannot be read: {reason}") from None
        keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        if not keys:
            raise ConfigurationError(
                f"the file of API keys {self._file} has no key; write one per line, `#` starts a comment"
            )
        if _is_world_readable(self._file):
            logger.warning("every user of this machine can read the API keys in %s; chmod o-r", self._file)
        return _digests(keys, str(self._file))


def _digests(keys: Sequence[str], source: str) -> list[bytes]:
    """Digests of `keys`. Raises ConfigurationError, without the key, if one cannot be meant as it is written."""
    for number, key in enumerate(keys, start=1):
        if problem := key_problem(key):
            raise ConfigurationError(f"key {number} of {source} {problem}")
    return [sha256(key.encode()).digest() for key in keys]


def _is_world_readable(file: Path) -> bool:
    return bool(file.stat().st_mode & stat.S_IROTH)


def _stamp(file: Path | None) -> tuple[int, ...]:
    """Changes whenever `file` is written or replaced."""
    if file is None:
        return ()
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def presented_keys(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Every key in `headers`, in any of the three forms."""
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


class AuthCheck:
    """Refuses requests without a valid key, except for open paths; names the caller after its key."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    def __call__(self, scope: Scope, context: RequestContext) -> None:
        """Raise UnauthorizedError."""
        if context.path in OPEN_PATHS or context.path == _PAGE:
            return
        digest = self._keys.find(presented_keys(scope["headers"]))
        if digest is None:
            given = not context.headers.keys().isdisjoint((b"authorization", b"x-api-key"))
            raise UnauthorizedError(f"{'this key is not accepted' if given else 'a key is needed'}; {_HELP}")
        context.caller = f"key {digest.hex()[:16]}"
