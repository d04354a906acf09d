"""URLs of remote gold models.

vllm+http://host:8000?model=NAME&tokenizer=FOLDER     kind + URL of the server + options
sglang+https://host/rm?tokenizer=FOLDER
tei+http://host:8080
glassbox+http://host:8000
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from reward_service.errors import ConfigurationError

Kind = Literal["vllm", "sglang", "tei", "glassbox"]
Sends = Literal["messages", "pair", "text", "ids"]

_CHOICES: dict[Kind, tuple[Sends, ...]] = {
    "vllm": ("messages", "text", "ids"),
    "sglang": ("text", "ids"),
    "tei": ("pair", "text"),
    "glassbox": ("messages",),
}
"""What each kind of server can be sent; the first is for a spec without a tokenizer, the last for one with it."""
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "vllm": ("model", "tokenizer", "send", "route", "max_tokens", "raw"),
    "sglang": ("tokenizer", "send", "max_tokens", "raw"),
    "tei": ("tokenizer", "send", "max_tokens", "raw"),
    "glassbox": (),
}
_ROUTES = ("classify", "pooling")
_URL = re.compile(r"(?P<kind>[a-z]+)\+(?P<url>https?://.+)", re.DOTALL)
_SHAPE = "vllm+http://HOST:PORT?model=NAME, or sglang+, tei+ or glassbox+ before http:// or https://"


@dataclass(frozen=True, slots=True)
class RemoteSpec:
    """A remote gold model, as the setting `gold` names it."""

    text: str
    """The whole setting: the model's id in replies."""
    kind: Kind
    url: str
    """Of the server, without options and a slash at its end; its host in lower case, without the usual port."""
    sends: Sends
    """What is sent for a conversation. The server renders `messages`; this service renders `text` and `ids`."""
    model: str | None = None
    """Name that vLLM serves the model as."""
    tokenizer: str | None = None
    """Folder or Hugging Face id of the model's tokenizer, with its chat template."""
    route: str = "classify"
    """Route of vLLM."""
    max_tokens: int | None = None
    """Tokens of a conversation; a longer one is truncated on the left."""
    raw: bool = False
    """Whether the operator states that the scores are raw logits, so that they are not examined at start."""

    @classmethod
    def parse(cls, text: str) -> RemoteSpec:
        """Parse the setting. Raises ConfigurationError, with what to write."""
        found = _URL.fullmatch(text)
        if found is None or found["kind"] not in get_args(Kind):
            raise ConfigurationError(f"--gold {_without_userinfo(text)!r} is no remote gold model: write {_SHAPE}")
        kind: Kind = found["kind"]  # type: ignore[assignment]
        shown = f"--gold {_without_userinfo(text)!r}"
        try:
            parts = urlsplit(found["url"])
            port = parts.port
        except ValueError as exc:
            raise ConfigurationError(f"{shown} has no valid URL: {exc}") from None
        if parts.username is not None or parts.password is not None:
            raise ConfigurationError(f"{shown} has a user or a key: set GLASSBOX_GOLD_API_KEY instead")
        if not parts.hostname or parts.fragment or port == 0:
            raise ConfigurationError(f"{shown} has no host, or a part after #: write {_SHAPE}")
        options = _options(kind, parts.query, shown)
        sends = _sends(kind, options, shown)
        if sends not in {"text", "ids"} and "max_tokens" in options:
            raise ConfigurationError(
                f"{shown} has max_tokens, which is not used with send={sends}: the server truncates; leave it out"
            )
        host = parts.netloc.lower().removesuffix({"http": ":80", "https": ":443"}[parts.scheme])
        url = f"{parts.scheme}://{host}{parts.path}".rstrip("/")
        return cls(
            text=text,
            kind=kind,
            url=url,
            sends=sends,
            model=options.get("model"),
            tokenizer=options.get("tokenizer"),
            route=_choice(options, "route", _ROUTES, shown),
            max_tokens=_positive(options, shown),
            raw=_choice(options, "raw", ("false", "true"), shown) == "true",
        )


def is_remote(gold: str) -> bool:
    """Whether the setting `gold` names a server."""
    return "://" in gold


def _options(kind: Kind, query: str, shown: str) -> dict[str, str]:
    known = _OPTIONS[kind]
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, value in pairs:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise ConfigurationError(f"{shown} has the option {name!r}; those of {kind} are: {listed}")
        if not value:
            raise ConfigurationError(f"{shown} has no value for {name}")
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ConfigurationError(f"{shown} has an option twice")
    return options


def _sends(kind: Kind, options: dict[str, str], shown: str) -> Sends:
    choices, has_tokenizer = _CHOICES[kind], "tokenizer" in options
    default = choices[-1] if has_tokenizer else choices[0]
    sends: Sends = _choice({"send": default} | options, "send", choices, shown)  # type: ignore[assignment]
    if sends in {"text", "ids"} and not has_tokenizer:
        raise ConfigurationError(
            f"{shown} needs tokenizer=FOLDER or ID: this service renders conversations with the model's chat "
            f"template, because {kind} is sent {'texts' if sends == 'text' else 'token ids'}"
        )
    if sends not in {"text", "ids"} and has_tokenizer:
        raise ConfigurationError(f"{shown} has a tokenizer, which is not used with send={sends}; leave one out")
    return sends


def _choice(options: dict[str, str], name: str, choices: tuple[str, ...], shown: str) -> str:
    value = options.get(name, choices[0])
    if value not in choices:
        raise ConfigurationError(f"{shown} has {name}={value}: it must be {' or '.join(choices)}")
    return value


def _positive(options: dict[str, str], shown: str) -> int | None:
    value = options.get("max_tokens")
    if value is None:
        return None
    if not re.fullmatch("[1-9][0-9]{0,8}", value):
        raise ConfigurationError(f"{shown} has max_tokens={value}: it must be a positive whole number")
    return int(value)


def _without_userinfo(text: str) -> str:
    """Without everything up to the last @ of the address: it may be a key."""
    head, separator, rest = text.partition("://")
    return f"{head}{separator}{rest.rpartition('@')[2]}"
