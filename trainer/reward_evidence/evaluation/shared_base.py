"""A gold model fitted on the weights that the policy started from is not independent of it. Pure.

The reward service knows what its gold models were fitted on and states it about its encoder; only the record of a
run, or the user, says what the policy is.
"""

from reward_client.wire import ModelInfo
from reward_client.wire.shared_base import shared_base_notice


def gold_notices(gold: ModelInfo, policy: str | None) -> list[str]:
    """The service's notices of a gold model, and that on a base that it shares with `policy`, a name or None."""
    shared = shared_base_notice(gold.id, gold.base, "policy", policy)
    return [*gold.notices, *([shared] if shared else [])]
