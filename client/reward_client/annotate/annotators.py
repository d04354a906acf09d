"""Where the label of a row comes from."""

from __future__ import annotations

from collections.abc import Callable

from reward_client.annotate.rows import Label, PromptRow
from reward_client.query_types.classifier import embedded_classifier

Annotator = Callable[[PromptRow], Label]


def classified(row: PromptRow) -> Label:
    """The label of the embedded classifier, with its confidence."""
    guess = embedded_classifier().guess(row.prompt)
    if guess is None:
        return Label(None, "classifier", error="the beginning of the prompt has no text")
    return Label(guess.query_type, "classifier", guess.confidence)


def keeping(annotator: Annotator) -> Annotator:
    """`annotator` for rows without a label; others keep theirs."""

    def annotate(row: PromptRow) -> Label:
        return annotator(row) if row.label is None else Label(row.label, "given")

    return annotate
