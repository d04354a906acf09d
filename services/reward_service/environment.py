"""Environment variables of the service: names, former names, and an error for a name that is not known.

    GLASSBOX_MAX_ITEMS ─▶ max_items
    REWARD_MAX_ITEMS   ─▶ max_items, with a warning at start: the former prefix, accepted until release 0.3
    GLASSBOX_MAX_ITEM  ─▶ ConfigurationError: did you mean GLASSBOX_MAX_ITEMS?
    GLASBOX-MAX-ITEMS  ─▶ the same: separators, or a letter or two, differ from a known name
    GLASSBOX_MAX_ITEMS= ▶ ConfigurationError: no setting may be empty; unset the variable to use the default

Upper and lower case are equal. `GLASSBOX_API_KEY` means the same everywhere: the service accepts the key, client
and trainer send it.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pydantic_core import ErrorDetails

from reward_client.wire import error_message
from reward_service.errors import ConfigurationError

PREFIX = "GLASSBOX_"
FORMER_PREFIX = "REWARD_"

OTHER_VARIABLES = frozenset(
    PREFIX + name
    for name in (
        *("BIND", "GID", "RECIPES", "REVISION", "RUNS", "TAG", "UID", "VERSION"),  # docker-compose.yml
        *("REWARD_URL", "URL"),  # client and trainer
        *("RECIPE", "GOLD", "QUERY_TYPE_DEFAULT", "DATASET", "DATASET_MISS", "DEADLINE_S", "RUN"),  # adapters
        *("PROMPT_COLUMN", "REFERENCE_COLUMN", "QUERY_TYPE_COLUMN", "LOG_FEATURES"),
        *("CACHE", "HOOKS", "LAUNCH", "ROLLOUT_BATCH"),  # trainer
        *("AWAY_S", "FUZZ", "SHARED", "FRAMEWORKS_DIR", "SERVICE_PYTHON"),  # tests
    )
)
"""Variables with our prefix that other parts of the project read."""

KEY_SETTINGS = ("api_key", "api_keys_file")
"""Settings without which authentication is off."""
SECRET_SETTINGS = ("api_key", "gold_api_key")
"""Settings that are read from the environment only, and not shown."""

_NEAR = 0.9
"""Share of equal letters above which a name counts as a misspelling: two of `GLASSBOX_API_KEY` may differ.
`FORWARD_API_KEY` is below it."""

_KUBERNETES = re.compile(r"GLASSBOX_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""Variables that Kubernetes sets in every pod for a Service whose name begins with `glassbox`."""
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://")
"""How Kubernetes' variables begin that have the name of a setting: `GLASSBOX_PORT`, `GLASSBOX_METRICS_PORT`."""


@dataclass(frozen=True, slots=True)
class EnvironmentValues:
    """Settings found in the environment."""

    values: dict[str, str]
    """Value by the setting's name."""
    warnings: list[str]
    """One sentence for each variable with a former name."""


def read_environment(environ: Mapping[str, str], settings: Iterable[str]) -> EnvironmentValues:
    """The values of `settings` in `environ`.

    Raises:
        ConfigurationError: a variable has one of our prefixes, or nearly so, and its name is not known; it is
            empty; or it is set twice.
    """
    known = {PREFIX + name.upper(): name for name in settings}
    given = _in_upper_case(environ)
    found = EnvironmentValues({}, [])
    for variable, value in sorted(given.items()):
        current = _current_name(variable, value, known)
        if current is None:
            continue
        if not value.strip():
            raise ConfigurationError(empty_value(variable, known[current]))
        if variable == current:
            found.values[known[current]] = value
            continue
        if current in given:
            found.warnings.append(f"{variable} is ignored, because {current} is set")
        else:
            found.values[known[current]] = value
            found.warnings.append(f"{variable} is called {current} now; the former name will be removed")
    return found


def _in_upper_case(environ: Mapping[str, str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for variable, value in environ.items():
        name = variable.upper()
        if given.setdefault(name, value) != value and name.startswith((PREFIX, FORMER_PREFIX)):
            raise ConfigurationError(f"{name} is set twice, in upper and lower case, to different values")
    return given


def _current_name(variable: str, value: str, known: Mapping[str, str]) -> str | None:
    """The current name of a variable that sets a setting; None for variables of other programs."""
    current = re.sub(f"^{FORMER_PREFIX}", PREFIX, variable)
    if current in known:
        return None if _KUBERNETES_URL.match(value) else current
    if not current.startswith(PREFIX):
        if _KUBERNETES_URL.match(value):
            return None
        if near := _nearly_ours(variable, tuple(known)):
            raise ConfigurationError(f"unknown environment variable {variable}; did you mean {near}?")
    elif current not in OTHER_VARIABLES and not _KUBERNETES.fullmatch(current):
        raise ConfigurationError(_unknown(variable, [*known, *OTHER_VARIABLES]))
    return None


def empty_value(shown: str, setting: str) -> str:
    """Message for a setting with an empty value; `shown` is how it was given."""
    if setting in KEY_SETTINGS:
        return (
            f"{shown} is empty: set it to a key, or leave it out and give no key in another way, to serve without "
            f"authentication; other addresses than loopback then need {PREFIX}ALLOW_ANONYMOUS=true"
        )
    return f"{shown} is empty: leave it out to use the default"


def wrong_value(error: ErrorDetails) -> str:
    """One sentence for a value that a setting cannot have, which is not shown if it is secret."""
    name, message = str(error["loc"][0]), error_message(error)
    if error["type"] == "extra_forbidden":
        return f"{name} is not a setting; docs/reference/settings.md lists them"
    shown = "" if name in {*KEY_SETTINGS, *SECRET_SETTINGS} else f" is {error['input']!r}, which"
    rule = re.sub(r"^\w+ should ", "", message).partition(", unable to")[0]
    return f"--{name.replace('_', '-')} ({PREFIX}{name.upper()}){shown} cannot be used: it must {rule}"


@lru_cache(maxsize=4096)
def _nearly_ours(variable: str, known: tuple[str, ...]) -> str | None:
    """The variable that was meant by a name without our prefix; of the former names only the keys are compared."""
    former = [FORMER_PREFIX + name.upper() for name in KEY_SETTINGS]
    names = {_letters(name): name for name in (*known, *former)}
    (near, *_) = difflib.get_close_matches(_letters(variable), names, 1, _NEAR) or [""]
    return names.get(near)


def _letters(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name)


def _unknown(variable: str, known: list[str]) -> str:
    """Names that begin with what was written come first: a cut-off name is the commonest mistake."""
    name = variable.removeprefix(PREFIX).removeprefix(FORMER_PREFIX)
    names = sorted(k.removeprefix(PREFIX) for k in known)
    near = [*dict.fromkeys([*(n for n in names if n.startswith(name)), *difflib.get_close_matches(name, names)])]
    nearest = " or ".join(PREFIX + n for n in near[:3])
    hint = f"did you mean {nearest}?" if near else "docs/reference/settings.md lists them"
    return f"unknown environment variable {variable}; {hint}"
