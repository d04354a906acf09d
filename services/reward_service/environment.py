"""Environment variables of the service: names, former names, and an error for a name that is not known.

    GLASSBOX_MAX_ITEMS ─▶ max_items
    REWARD_MAX_ITEMS   ─▶ max_items, with a warning at start: the former prefix, accepted until release 0.3
    GLASSBOX_MAX_ITEM  ─▶ ConfigurationError: did you mean GLASSBOX_MAX_ITEMS?

`GLASSBOX_API_KEY` means the same everywhere: the service accepts the key, client and trainer send it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reward_service.errors import ConfigurationError

__all__ = ["PREFIX", "EnvironmentValues", "read_environment"]

PREFIX = "GLASSBOX_"
FORMER_PREFIX = "REWARD_"

OTHER_VARIABLES = frozenset(
    PREFIX + name
    for name in (
        *("BIND", "GID", "RECIPES", "REVISION", "RUNS", "TAG", "UID", "VERSION"),  # docker-compose.yml
        *("REWARD_URL", "URL"),  # client and trainer
        *("CACHE", "HOOKS", "LAUNCH", "ROLLOUT_BATCH"),  # trainer
        *("FUZZ", "SHARED"),  # tests
    )
)
"""Variables with our prefix that other parts of the project read."""

_KUBERNETES = re.compile(r"GLASSBOX_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""Variables that Kubernetes sets in every pod for a Service whose name begins with `glassbox`."""
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://")
"""How Kubernetes' `GLASSBOX_PORT` begins, which is also the name of a setting."""


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
        ConfigurationError: a variable has one of our prefixes, and its name is not known.
    """
    known = {PREFIX + name.upper(): name for name in settings}
    given = {name.upper(): value for name, value in environ.items()}
    found = EnvironmentValues({}, [])
    for variable, value in sorted(given.items()):
        current = variable
        if variable.startswith(FORMER_PREFIX):
            current = PREFIX + variable.removeprefix(FORMER_PREFIX)
        if not current.startswith(PREFIX) or current in OTHER_VARIABLES or _is_set_by_kubernetes(current, value):
            continue
        if current not in known:
            raise ConfigurationError(_unknown(variable, [*known, *OTHER_VARIABLES]))
        if variable == current:
            found.values[known[current]] = value
            continue
        if current in given:
            found.warnings.append(f"{variable} is ignored, because {current} is set")
        else:
            found.values[known[current]] = value
            found.warnings.append(f"{variable} is called {current} now; the former name will be removed")
    return found


def _is_set_by_kubernetes(variable: str, value: str) -> bool:
    if variable == f"{PREFIX}PORT":
        return _KUBERNETES_URL.match(value) is not None
    return _KUBERNETES.fullmatch(variable) is not None


def _unknown(variable: str, known: list[str]) -> str:
    """Names that begin with what was written come first: a cut-off name is the commonest mistake."""
    name = variable.removeprefix(PREFIX).removeprefix(FORMER_PREFIX)
    names = sorted(k.removeprefix(PREFIX) for k in known)
    near = [*dict.fromkeys([*(n for n in names if n.startswith(name)), *difflib.get_close_matches(name, names)])]
    nearest = " or ".join(PREFIX + n for n in near[:3])
    hint = f"did you mean {nearest}?" if near else "docs/reference/settings.md lists them"
    return f"unknown environment variable {variable}; {hint}"
