"""Where a service listens, and the key that opens it: kept apart from the first moment.

    "http://key:SECRET@host:8000/" ──▶ Address(url="http://host:8000", key=ApiKey(<hidden>))

Whatever shows an address shows `url`, so a key reaches no message, log or `repr`. It leaves by two doors only:
`headers`, and `with_key` for programs that know nothing but a URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import httpx

from reward_client.errors import RewardError

__all__ = ["API_KEY_VARIABLE", "Address", "ApiKey", "addresses", "key_from_environment"]

API_KEY_VARIABLE = "GLASSBOX_API_KEY"
"""Environment variable that command line and trainer take the key from."""

_IN_A_HEADER = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, repr=False)
class ApiKey:
    """A secret that does not print itself."""

    secret: str

    def __post_init__(self) -> None:
        if not _IN_A_HEADER.fullmatch(self.secret):
            raise RewardError(
                "the API key is empty or has characters that no HTTP header carries (blanks, not ASCII). "
                f"It is not shown here; look at what {API_KEY_VARIABLE}, api_key or the URL was given."
            )

    def __repr__(self) -> str:
        return "ApiKey(hidden)"


@dataclass(frozen=True, slots=True)
class Address:
    """One service."""

    url: str
    """Without user, password and a slash at its end."""
    key: ApiKey | None = None

    @classmethod
    def parse(cls, text: str, key: ApiKey | None = None) -> Address:
        """Read a URL; a key in it goes before `key`. Raises RewardError when it is no address."""
        shown = _without_userinfo(text)
        if not text.startswith(("http://", "https://")):
            raise RewardError(f"{shown!r} is no address of a reward service: it begins with http:// or https://")
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as exc:
            # What the parser says may quote the key, so it is neither shown nor chained.
            said = "" if shown != text else f": {exc}"
            raise RewardError(f"{shown!r} is no address of a reward service{said}") from None
        if "@" in str(url.copy_with(username=None, password=None)):
            raise RewardError(f"{shown!r} is no address: characters like / ? # in a key are written %2F %3F %23")
        if url.username and not url.password:
            raise RewardError(f"a key in a URL is its password, as in http://key:SECRET@host ({shown})")
        found = ApiKey(url.password) if url.password else key
        return cls(str(url.copy_with(username=None, password=None)).rstrip("/"), found)

    def headers(self) -> dict[str, str]:
        """What a request to this service carries besides its body."""
        return {"authorization": f"Bearer {self.key.secret}"} if self.key else {}

    def with_key(self) -> str:
        """The URL as `http://key:SECRET@host`, for clients that take nothing else. A secret: never show it."""
        if self.key is None:
            return self.url
        scheme, rest = self.url.split("://", 1)
        return f"{scheme}://key:{quote(self.key.secret, safe='')}@{rest}"


def addresses(urls: str | Sequence[str], api_key: str | None = None) -> tuple[Address, ...]:
    """Each of `urls` as an address, in order; `api_key` is for those without a key of their own."""
    texts = [urls] if isinstance(urls, str) else list(urls)
    if not texts:
        raise RewardError("no address of a reward service was given")
    key = ApiKey(api_key) if api_key is not None else None
    return tuple(Address.parse(text, key) for text in texts)


def key_from_environment(environ: Mapping[str, str] = os.environ) -> str | None:
    """The key in GLASSBOX_API_KEY, without blanks around it; None when it is unset or empty."""
    return environ.get(API_KEY_VARIABLE, "").strip() or None


def _without_userinfo(text: str) -> str:
    """Also of what is no URL: everything up to the last @, because a key may hold an unescaped slash."""
    return re.sub(r"^((?:\w+://)?).*@", r"\1", text, flags=re.DOTALL)
