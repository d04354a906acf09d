"""A gold model fitted on the weights of the relevance encoder is not independent of it. Imports no torch."""

from __future__ import annotations

from reward_service.models.protocols import GoldModel


def shared_base_notice(gold: GoldModel, encoder_id: str) -> str | None:
    """The notice for a gold model that was fitted on the relevance encoder's weights; None for other gold models.

    Ids are compared by their last path segment, so a hub id equals the embedded package of the same model.
    """
    if gold.encoder_base is None or _last_part(gold.encoder_base) != _last_part(encoder_id):
        return None
    return (
        f"the gold model {gold.id} is fitted on {gold.encoder_base}, which is also the relevance encoder: "
        "where the two agree, that is not independent evidence"
    )


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold()
