"""An item with several references: a text feature is computed again only if it reads the reference."""

from __future__ import annotations

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.scoring.text_features import TextFeatures


def test_only_features_that_read_the_reference_are_computed_for_each() -> None:
    computed: list[str] = []

    def length(inputs: ResponseText) -> float:
        computed.append("length")
        return float(len(inputs.response))

    def match(inputs: ResponseText) -> float:
        computed.append("match")
        return float(inputs.response == inputs.reference)

    features = [
        Feature(name, ResponseText, (0.0, 1.0), name, None, compute, flags=lambda _: ["seen"])
        for name, compute in (("length", length), ("match", match))
    ]
    recipe = RecipeRegistry.load(None).get("rer")
    first = TextFeatures(ResponseText((), "b", ["b"], "a", recipe))

    assert [first.measure(feature) for feature in features] == [(1.0, ["seen"]), (0.0, ["seen"])]
    assert [first.with_reference("b").measure(feature) for feature in features] == [
        (1.0, ["seen"]),
        (1.0, ["seen"]),
    ]
    assert computed == ["length", "match", "match"]
    assert first.read_reference
