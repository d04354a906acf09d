"""`GET /info` of a service whose models are loaded, for commands that decide by it which models there are.

    GET /info ─▶ every model that is needed is loaded, or the service was started without it ─▶ Info
       ▲             ├─▶ one could not be loaded ─▶ RewardUnavailableError, with the cause that GET /readyz has
       └── 0.5 s ◀───┴─▶ one is loading, and was for less than the time limit

Until a model is loaded, `Info.gold` and `Info.relevance` are null, as in a service without that model. An older
service does not say which models it was started with; such a one is asked by `GET /readyz`, which fails until all
are loaded.
"""

import time
from collections.abc import Callable, Collection

import httpx

from reward_client.client import RewardClient
from reward_client.errors import RewardError, RewardRejectedError, RewardUnavailableError
from reward_client.wire import Info

LOAD_S = 600.0
"""Seconds to wait for models: one of the hub may have to be downloaded."""
ENCODER, GOLD = "encoder", "gold"
"""Kinds of models, with which their names in `Info.models` begin."""
_POLL_S = 0.5
_ANSWER_S = 5.0
"""Seconds for the answer of `GET /readyz`."""


def loaded_info(
    client: RewardClient,
    say: Callable[[str], None],
    *,
    kinds: Collection[str] = (ENCODER, GOLD),
    limit_s: float = LOAD_S,
    without_gold: str | None = None,
) -> Info:
    """What the service offers, once its models of the `kinds` are loaded.

    `say` gets a line before a wait; `without_gold` is the option of the command that needs no gold model. Raises
    RewardUnavailableError when a model could not be loaded, or is not loaded after `limit_s` seconds.
    """
    give_up_s, waits = time.monotonic() + limit_s, False
    while True:
        info = client.info()
        if info.models is None:
            return _of_older_service(client, info, kinds, say, limit_s)
        states = {name: state for name, state in info.models.items() if _kind(name) in kinds}
        missing = {name: state for name, state in states.items() if state != "loaded"}
        if not missing:
            return info
        where, which = " or ".join(client.urls), _models(list(missing))
        if failed := [name for name, state in missing.items() if state == "failed"]:
            otherwise = f", or use {without_gold}" if without_gold and ENCODER not in failed else ""
            raise RewardUnavailableError(
                f"the service at {where} could not load its {_models(failed)}{_cause(client)}: correct that, and "
                f"start the service again{otherwise}"
            )
        if time.monotonic() >= give_up_s:
            raise RewardUnavailableError(
                f"the service at {where} has not loaded its {which} after {limit_s:g} s{_cause(client)}: see "
                f"`glassbox doctor --url {client.urls[0]}`, or wait longer with --wait S"
            )
        if not waits:
            say(f"waiting for the service at {where}, at most {limit_s:g} s: it loads its {which}{_cause(client)}")
            waits = True
        time.sleep(_POLL_S)


def _kind(name: str) -> str:
    """Of `gold-2`, for instance, `gold`."""
    return name.partition("-")[0]


def _models(names: list[str]) -> str:
    return f"{' and '.join(names)} model{'s' if len(names) > 1 else ''}"


def _cause(client: RewardClient) -> str:
    """What `GET /readyz` says, in brackets; nothing if it has no cause."""
    try:
        client.ready(deadline_s=1.0)
    except RewardUnavailableError as exc:
        return f" ({', '.join(exc.causes)})" if exc.causes else ""
    except RewardError:
        pass  # a service that does not show the route
    return ""


def _of_older_service(
    client: RewardClient, info: Info, kinds: Collection[str], say: Callable[[str], None], limit_s: float
) -> Info:
    found = {ENCODER: info.relevance, GOLD: info.gold}
    if all(found[kind] for kind in kinds):
        return info
    give_up_s, waits = time.monotonic() + limit_s, False
    while True:
        try:
            client.ready(deadline_s=_ANSWER_S)
            return client.info()
        except RewardRejectedError:  # a gateway that does not show the route
            return client.info()
        except RewardUnavailableError as exc:
            if isinstance(exc.__cause__, httpx.ConnectError) or time.monotonic() >= give_up_s:
                raise
            if not waits:
                where = " or ".join(client.urls)
                say(f"waiting for the service at {where}, at most {limit_s:g} s ({', '.join(exc.causes)})")
                waits = True
        time.sleep(_POLL_S)
