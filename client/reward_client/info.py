"""Looking up what `GET /info` lists: recipes, and which models they are."""

import difflib

from reward_client.errors import UnknownRecipeError
from reward_client.wire import Info, ModelInfo, ModelNames, RecipeInfo
from reward_client.wire.shared_base import same_model


def find_recipe(info: Info, name: str | None = None) -> RecipeInfo:
    """The recipe `name`, the service's default without a name. Raises UnknownRecipeError."""
    wanted = info.default_recipe if name is None else name
    for recipe in info.recipes:
        if recipe.name == wanted:
            return recipe
    known = [recipe.name for recipe in info.recipes]
    nearest = difflib.get_close_matches(wanted, known, n=1)
    raise UnknownRecipeError(wanted, f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(known)}")


def suits_encoder(recipe: RecipeInfo, encoder: str | None) -> bool:
    """Whether the ranges of `recipe`, if they were measured with an encoder, hold with the one of that id."""
    wanted = recipe.calibrated_for
    return wanted is None or (encoder is not None and same_model(wanted, encoder))


def model_identity(model: ModelInfo | None) -> dict[str, str] | None:
    """Which model it is, for records and reports; None without one."""
    return None if model is None else {"id": model.id, "revision": model.revision}


def changed_models(info: Info, used: ModelNames, *, gold: bool) -> str | None:
    """Which models of a reply are not those that the service had when it gave `info`; None if all are.

    Args:
        info: of the service, from before the reply.
        used: the models of the reply.
        gold: whether gold scores were requested.
    """
    pairs = [("relevance encoder", info.relevance, used.relevance, used.relevance_revision)]
    if gold:
        if list(used.golds.items()) != [(one.id, one.revision) for one in info.golds]:  # the primary one is first
            return "gold models"
        pairs.append(("gold model", info.gold, used.gold, used.gold_revision))
    for kind, model, name, revision in pairs:
        is_same = model is not None and name == model.id and revision in (model.revision, None)
        if name is not None and not is_same:  # an older service gives no revision
            return kind
    return None
