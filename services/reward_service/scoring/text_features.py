"""Text features of an item with several references.

A feature that does not read the reference has the same value with each of them, and is computed once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reward_service.features.feature import Feature, ResponseText

Measured = tuple[float | None, list[str]]
"""Value and flags of a feature."""


class _ObservedText(ResponseText):
    """Notes whether `reference` was read."""

    def __getattribute__(self, name: str) -> Any:
        if name == "reference":
            object.__getattribute__(self, "__dict__")["reference_was_read"] = True
        return super().__getattribute__(name)


class TextFeatures:
    """Measures the text features of an item."""

    def __init__(self, inputs: ResponseText, shared: dict[str, Measured] | None = None) -> None:
        fields = {name: getattr(inputs, name) for name in ResponseText.__dataclass_fields__}
        self._inputs = _ObservedText(**fields)
        self._shared = shared if shared is not None else {}
        self.read_reference = False
        """Whether a feature has read the reference."""

    def with_reference(self, reference: str) -> TextFeatures:
        """The same item with another reference."""
        return TextFeatures(replace(self._inputs, reference=reference), self._shared)

    def measure(self, feature: Feature[Any]) -> Measured:
        """Value and flags of `feature`. Raises FeatureError."""
        if feature.name in self._shared:
            return self._shared[feature.name]
        observed = vars(self._inputs)
        observed["reference_was_read"] = False
        measured = feature.measure(self._inputs)
        if observed["reference_was_read"]:
            self.read_reference = True
        else:
            self._shared[feature.name] = measured
        return measured
