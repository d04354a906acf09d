"""References from a data set, for the items of one request that have none: one hook for every protocol.

    item with a reference ──────────────────────────────────────────────────────────▶ unchanged
    item without ─▶ Dataset.find ─┬─ row ─▶ reference and query type of the row, flag `dataset_hit`
                                  └─ none ─▶ `fail`: an error of the item
                                             `open_ended`: scored without a reference, flag `dataset_miss`

An item that has a query type itself keeps it: one that is open-ended needs no reference, so a miss is no error of
it, and one that is closed-ended has no reward without a reference.

Items with the same prompt share the texts of its row. They count for each item, as if its body had brought them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reward_client.wire import DatasetMiss, FieldError, QueryType
from reward_service.datasets.keys import prompt_key
from reward_service.datasets.table import Dataset, StoredRow
from reward_service.errors import TooLargeError
from reward_service.scoring.job import InvalidItem, ScorableItem

HIT, MISS = "dataset_hit", "dataset_miss"


_Found = tuple[StoredRow, tuple[tuple[int, str], ...]]
"""A row, and its references with their numbers."""


@dataclass(slots=True)
class ReferenceLookup:
    """The look-ups of one request, in a thread."""

    dataset: Dataset
    on_miss: DatasetMiss
    max_chars: int
    """Characters of the references that all items together may find."""
    hits: int = 0
    misses: int = 0
    _n_chars: int = 0
    _found: dict[bytes, _Found] = field(default_factory=dict)
    """What was found by key. It keeps the rows alive, which requests share."""

    def complete(self, entry: ScorableItem | InvalidItem) -> ScorableItem | InvalidItem:
        """`entry` with the reference of its prompt, if it lacks one. Raises StorageError or TooLargeError."""
        if isinstance(entry, InvalidItem) or entry.reference is not None:
            return entry
        key = prompt_key(entry.messages)
        row = self.dataset.find(key)
        if row is not None:
            self.hits += 1
            self._count(row)
            return _with_row(entry, *self._found.setdefault(key, (row, tuple(enumerate(row.answers)))))
        self.misses += 1
        needs_none = entry.query_type_source == "given" and entry.query_type is QueryType.OPEN_ENDED
        if needs_none or (self.on_miss == "open_ended" and entry.query_type is QueryType.OPEN_ENDED):
            return replace(entry, flags=(*entry.flags, MISS))
        message = f"is not in the data set {self.dataset.info.name!r}, and the item has no reference"
        return InvalidItem("prompt", message, entry.id)

    def _count(self, row: StoredRow) -> None:
        self._n_chars += sum(map(len, row.answers))
        if self._n_chars > self.max_chars:
            message = f"has over {self.max_chars} characters of references for the items, more than max_body_bytes"
            raise TooLargeError(f"the data set {message}", [FieldError(field="dataset", message=message)])

    def notices(self) -> list[str]:
        """What a reader of the rewards must know."""
        if not self.misses:
            return []
        name, total = self.dataset.info.name, self.hits + self.misses
        return [f"{self.misses} of {total} prompts are not in the data set {name!r}"]


def _with_row(entry: ScorableItem, row: StoredRow, numbered: tuple[tuple[int, str], ...]) -> ScorableItem:
    given = entry.query_type_source == "given"
    return replace(
        entry,
        reference=row.answers[0] if row.answers else None,
        alternatives=numbered if len(row.answers) > 1 else (),
        query_type=entry.query_type if given else row.query_type,
        query_type_source="given" if given else row.source,
        flags=(*entry.flags, HIT),
    )
