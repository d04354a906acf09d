"""A gold model fitted on the weights that the policy started from is not independent of it. Pure.

The reward service knows what its gold models were fitted on and states it about its encoder; only the record of a
run, or the user, says what the policy is.
"""

from reward_client.wire import ModelInfo


def gold_notices(gold: ModelInfo, policy: str | None) -> list[str]:
    """The service's notices of a gold model, and that on a base that it shares with `policy`, a name or None.

    Names are compared by their last path segment, so a hub id equals the embedded package of the same model.
    """
    if policy is None or gold.base is None or _last_part(gold.base) != _last_part(policy):
        return list(gold.notices)
    return [
        *gold.notices,
        f"the gold model {gold.id} is fitted on {gold.base}, which is also the policy: "
        "where the gold model prefers what the policy writes, that is not independent evidence",
    ]


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold()
