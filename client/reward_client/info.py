"""Looking up what `GET /info` lists: recipes, and which models they are."""

import difflib

from reward_client.errors import UnknownRecipeError
from reward_client.wire import Info, ModelInfo, RecipeInfo


def find_recipe(info: Info, name: str | None = None) -> RecipeInfo:
    """The recipe `name`, the service's default without a name. Raises UnknownRecipeError."""
    wanted = info.default_recipe if name is None else name
    for recipe in info.recipes:
        if recipe.name == wanted:
            return recipe
    known = [recipe.name for recipe in info.recipes]
    nearest = difflib.get_close_matches(wanted, known, n=1)
    raise UnknownRecipeError(wanted, f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(known)}")


def model_identity(model: ModelInfo | None) -> dict[str, str] | None:
    """Which model it is, for records and reports; None without one."""
    return None if model is None else {"id": model.id, "revision": model.revision}
