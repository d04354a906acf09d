"""Rows of a data set of the Hugging Face hub, by its id. Needs the package `datasets`, which is optional."""

from __future__ import annotations

from collections.abc import Iterator

from reward_client.rows import FileError, NumberedRow


def hub_rows(dataset_id: str, config: str | None, split: str) -> Iterator[NumberedRow]:
    """The numbered rows of one split. Raises FileError."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise FileError(
            "--hub needs the package `datasets`: pip install datasets; or download the rows as JSON lines"
        ) from None
    try:
        rows = load_dataset(dataset_id, config, split=split)
    except Exception as exc:
        raise FileError(f"the data set {dataset_id!r} of the hub cannot be loaded: {exc}") from exc
    yield from enumerate(rows, 1)
