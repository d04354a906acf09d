"""Whether recipe and limits of the service fit what the framework will do: pure functions of GET /info."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reward_client.doctor.check import Check, failed, note, ok
from reward_client.doctor.demand import Demand
from reward_client.errors import UnknownRecipeError
from reward_client.info import find_recipe, suits_encoder
from reward_client.wire import Info, RecipeInfo

_GROWS = re.compile(r"(?<![(\w])(max_)?length_incentive\b(?!\s*/)")
"""A factor that is not held below a ceiling."""
CHARS_PER_TOKEN = 4
"""Of English text; other texts differ, so that the comparison with a limit is a rough one."""


def known_recipe(info: Info, name: str) -> RecipeInfo | Check:
    """The recipe, or the check that failed."""
    try:
        return find_recipe(info, name)
    except UnknownRecipeError as exc:
        return failed("recipe", f"the service has no recipe {name!r}", exc.hint)


def recipe_fits(info: Info, recipe: RecipeInfo, demand: Demand) -> Iterator[Check]:
    """The needs of the recipe, its range and its length."""
    yield _needs(info, recipe)
    yield _range(recipe, demand)
    limit = _length_limit(recipe)
    if demand.response_tokens and limit and limit != demand.response_tokens:
        yield note(
            "response length",
            f"{demand.framework} allows {demand.response_tokens} tokens, recipe {recipe.name} expects {limit:g}",
            f"set max_response_tokens: {demand.response_tokens} (in a recipe of your own, or in the URL)",
        )


def _length_limit(recipe: RecipeInfo) -> float | None:
    """The longest response that the recipe's range holds for; None if the reward does not grow with length."""
    if not any(_GROWS.search(formula) for formula in recipe.formula.values()):
        return None
    limit = recipe.parameters.get("max_response_tokens")
    return float(limit) if limit else None


def _largest(recipe: RecipeInfo, demand: Demand) -> float:
    """The highest reward, with responses as long as the framework allows."""
    limit, high = _length_limit(recipe), recipe.reward_range[1]
    if limit is None or not demand.response_tokens or demand.response_tokens <= limit:
        return high
    return high * demand.response_tokens / limit


def _needs(info: Info, recipe: RecipeInfo) -> Check:
    missing = [
        f"{name} (glassbox serve --{option} …)"
        for name, needed, model, option in (
            ("an encoder", recipe.needs_encoder, info.relevance, "encoder"),
            ("a gold model", recipe.needs_gold, info.gold, "gold"),
        )
        if needed and model is None
    ]
    if missing:
        found = f"{recipe.name} needs {' and '.join(missing)}, which the service does not have"
        return failed("recipe", found, "start the service with it, or choose another --recipe")
    encoder = info.relevance.id if info.relevance else None
    if not suits_encoder(recipe, encoder):
        return note(
            "recipe",
            f"{recipe.name} is calibrated for encoder {recipe.calibrated_for}, the service has {encoder}",
            "fit the recipe to the encoder with `glassbox calibrate`, or choose another --recipe",
        )
    used = (info.relevance, *(info.golds or (info.gold,)))
    models = [f"{model.id} on {model.device}" for model in used if model is not None]
    return ok("recipe", f"{recipe.name}, hash {recipe.hash}; models: {', '.join(models) or 'none'}")


def _range(recipe: RecipeInfo, demand: Demand) -> Check:
    lowest, highest = recipe.reward_range[0], _largest(recipe, demand)
    low, high = sorted((bound + demand.bias) * demand.scale for bound in (lowest, highest))
    found = f"{recipe.name} is in [{lowest:g}, {highest:g}]"
    if highest != recipe.reward_range[1]:
        found += f" with responses of {demand.response_tokens} tokens"
    if demand.clip is None:
        return ok("reward range", f"{found}; {demand.scale_text}" if demand.scale_text else found)
    clip_low, clip_high = demand.clip
    if demand.scale != 1 or demand.bias:
        found += f", scaled to [{low:g}, {high:g}]"
    clipped = f"{demand.framework} clips to [{clip_low:g}, {clip_high:g}] ({demand.clip_setting})"
    if clip_low <= low and high <= clip_high:
        return ok("reward range", f"{found}; {clipped}")
    return failed(
        "reward range",
        f"{found}; {clipped}, without a word: different rewards become equal",
        f"set {demand.clip_setting} so that it contains [{low:g}, {high:g}]",
    )


def limits_fit(info: Info, demand: Demand) -> Check:
    """The service's limits against the batch and the texts that the framework will send."""
    limits = info.limits
    allowed = f"{limits.max_items} items, {limits.max_text_chars} characters a text"
    found = [f"the service takes {allowed}, {limits.max_body_bytes / 2**20:.0f} MiB a request"]
    too_long = []
    for what, tokens in (("response", demand.response_tokens), ("prompt", demand.prompt_tokens)):
        if tokens is None:
            continue
        chars = tokens * CHARS_PER_TOKEN
        found.append(f"a {what} of {tokens} tokens is about {chars} characters")
        if chars > limits.max_text_chars:
            too_long.append(what)
    if demand.items is not None:
        found.append(f"{demand.framework} sends {demand.items} a call")
    text = "; ".join(found)
    if too_long:
        fix = "raise GLASSBOX_MAX_TEXT_CHARS of the service, or lower the framework's limit"
        return failed("limits", f"{text}: the longest {' and '.join(too_long)} would be refused (413)", fix)
    if demand.items is not None and demand.items > limits.max_items:
        fix = "an adapter of this package splits the batch; by URL, raise GLASSBOX_MAX_ITEMS of the service"
        return note("limits", text, fix)
    return ok("limits", text)
