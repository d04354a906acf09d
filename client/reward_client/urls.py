"""Addresses of a service: URL and API key, separated as soon as they are read.

    "http://key:SECRET@host:8000/" ──▶ Address(url="http://host:8000", key=ApiKey(<hidden>))

Messages, logs and `repr` show only `url`. The key is used in two places only: `headers`, and `with_key` for
programs that accept nothing but a URL.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

import httpx

from reward_client.errors import RewardError
from reward_client.wire.api_key import fits_in_header, key_problem

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `glassbox serve` listens without options."""
URL_VARIABLE = "GLASSBOX_URL"
"""Environment variable with the service's URL, or those of replicas, separated by commas."""
API_KEY_VARIABLE = "GLASSBOX_API_KEY"
"""Environment variable from which the command line and the trainer read the key."""
ENDPOINT_KEY_VARIABLE = "OPENAI_API_KEY"
"""Environment variable with the key of an OpenAI-compatible endpoint, which is another server than the service."""


@dataclass(frozen=True, slots=True, repr=False)
class ApiKey:
    """A secret that `repr` hides."""

    secret: str

    def __post_init__(self) -> None:
        if not fits_in_header(self.secret):
            raise RewardError(
                "the API key is empty or has characters that an HTTP header cannot carry (blanks, not ASCII). "
                f"It is not shown here; check {API_KEY_VARIABLE}, the argument api_key and the URL."
            )

    def __repr__(self) -> str:
        return "ApiKey(hidden)"


@dataclass(frozen=True, slots=True)
class Address:
    """URL and API key of one service."""

    url: str
    """Without user, password and trailing slash."""
    key: ApiKey | None = None

    @classmethod
    def parse(cls, text: str, key: ApiKey | None = None, *, with_query: bool = False) -> Self:
        """Parse a URL; a key in it takes precedence over `key`. Raises RewardError when it is not valid.

        A query is an error, unless `with_query`: the client appends its routes to the URL.
        """
        shown = without_userinfo(text)
        if not text.startswith(("http://", "https://")):
            raise RewardError(
                f"{shown!r} is not the URL of a reward service: it must begin with http:// or https://"
            )
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as exc:
            # The parser's message may quote the key, so it is neither shown nor chained.
            detail = "" if shown != text else f": {exc}"
            raise RewardError(f"{shown!r} is not the URL of a reward service{detail}") from None
        if problem := _problem(url, text):
            raise RewardError(f"{shown!r} is not the URL of a reward service: {problem}")
        if "@" in str(url.copy_with(username=None, password=None)):
            raise RewardError(f"{shown!r} is not a URL: in a key, write the characters / ? # as %2F %3F %23")
        if "#" in shown or ("?" in shown and not with_query):
            raise RewardError(
                f"{shown!r} is not the URL of a reward service: it has options, which belong to the URL of a "
                "framework's protocol. A data set or a recipe has a setting: GLASSBOX_DATASET, GLASSBOX_RECIPE"
            )
        if url.username and not url.password:
            raise RewardError(f"a key in a URL must be its password, as in http://key:SECRET@host ({shown})")
        found = ApiKey(url.password) if url.password else key
        return cls(str(url.copy_with(username=None, password=None)).rstrip("/"), found)

    def headers(self) -> dict[str, str]:
        """Headers of each request to this service."""
        return {"authorization": f"Bearer {self.key.secret}"} if self.key else {}

    def with_key(self) -> str:
        """The URL with the key, `http://key:SECRET@host`, for clients that accept nothing else. A secret."""
        if self.key is None:
            return self.url
        scheme, rest = self.url.split("://", 1)
        return f"{scheme}://key:{quote(self.key.secret, safe='')}@{rest}"


def _problem(url: httpx.URL, text: str) -> str | None:
    """What the parser of URLs accepts, and no server can have."""
    if re.search(r"\s", text):
        return "it contains a blank"
    if not url.host:
        return "it has no host"
    if url.port is not None and not 0 < url.port < 2**16:
        return f"there is no port {url.port}"
    return None


def addresses(urls: str | Sequence[str], api_key: str | None = None) -> tuple[Address, ...]:
    """Parse `urls`, in order; `api_key` is used for those that contain no key."""
    texts = [urls] if isinstance(urls, str) else list(urls)
    if not texts:
        raise RewardError("no URL of a reward service was given")
    key = ApiKey(api_key) if api_key is not None else None
    return tuple(Address.parse(text, key) for text in texts)


def split_urls(text: str) -> list[str]:
    """The URLs in `text`, separated by commas; a comma that no URL follows belongs to a key."""
    parts = re.split(r",(?=\s*https?://)", text)
    return [url for url in (part.strip(" ,\t\r\n") for part in parts) if url]


def urls_from_environment(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The URLs in `URL_VARIABLE`, or else the default. Raises RewardError for one that is not valid."""
    urls = split_urls(environ.get(URL_VARIABLE, "")) or [DEFAULT_URL]
    for url in urls:
        try:
            Address.parse(url)
        except RewardError as exc:
            raise RewardError(f"{URL_VARIABLE}: {exc}") from None
    return urls


def key_from_environment(environ: Mapping[str, str] = os.environ, variable: str = API_KEY_VARIABLE) -> str | None:
    """The key in `variable`; None when it is unset. Raises RewardError when it is empty or miswritten."""
    key = environ.get(variable)
    if key is not None and (problem := key_problem(key)):
        raise RewardError(f"the API key in {variable} {problem}; unset it to send no key")
    return key


def without_userinfo(text: str) -> str:
    """Remove everything up to the last @, also from an invalid URL: a key may contain an unescaped slash."""
    return re.sub(r"^((?:\w+://)?).*@", r"\1", text, flags=re.DOTALL)
