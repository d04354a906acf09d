"""Summary of annotated rows, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from reward_client.annotate.rows import Label, PromptRow
from reward_client.rows import first_of
from reward_client.wire import QueryType

_STEPS = (0.6, 0.7, 0.8, 0.9)


class Summary:
    """Counts labels; `str` is the summary. `where` names a row of the input in messages."""

    def __init__(self, where: str, min_confidence: float) -> None:
        self._where = where
        self._min_confidence = min_confidence
        self._labels: Counter[tuple[str, str]] = Counter()
        self._confidences: list[float] = []
        self._without_reference = 0
        self.unsure = 0
        """Rows below the required confidence."""
        self.errors: list[str] = []
        """Rows without a label, each with its line."""

    def add(self, row: PromptRow, label: Label) -> None:
        """Count one row."""
        if label.query_type is None:
            self.errors.append(f"{self._where} {row.number}: {label.error}")
            return
        if label.confidence is not None:
            self._confidences.append(label.confidence)
            if label.confidence < self._min_confidence:
                self.unsure += 1
                return
        self._labels[label.source, label.query_type.value] += 1
        self._without_reference += label.query_type is QueryType.CLOSED_ENDED and not row.has_reference

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{sum(self._labels.values())} rows have a query type"
        for (source, query_type), n in sorted(self._labels.items()):
            yield f"  {query_type}, {'as given' if source == 'given' else f'by the {source}'}: {n}"
        if self._confidences:
            shares = (f"{sum(c >= step for c in self._confidences)} at least {step}" for step in _STEPS)
            yield f"  confidence of {len(self._confidences)} rows: {', '.join(shares)}"
        if self.unsure:
            yield f"{self.unsure} rows are below {self._min_confidence:g} and left for a person to label"
        if self._without_reference:
            yield (
                f"note: {self._without_reference} closed_ended rows have no reference; they cannot be scored "
                "until they have one"
            )
        if self.errors:
            yield f"{len(self.errors)} rows have no query type:"
            yield first_of(self.errors)
