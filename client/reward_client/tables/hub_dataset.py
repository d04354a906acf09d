"""Scores of a Hugging Face dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reward_client.client import RewardClient
from reward_client.tables.columns import TEXTS, input_columns, whole_numbers
from reward_client.tables.scoring import ShowProgress, TableScorer, show_progress

if TYPE_CHECKING:
    import datasets


def score_dataset(
    client: RewardClient,
    dataset: datasets.Dataset,
    *,
    prompt_column: str = "prompt",
    response_column: str = "response",
    reference_column: str | None = None,
    query_type_column: str | None = None,
    batch: int = 256,
    keep_going: bool = False,
    progress: ShowProgress | None = show_progress,
    **options: Any,
) -> datasets.Dataset:
    """Score the rows of a `datasets.Dataset`; arguments, result and errors are those of `score_frame`."""
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        hint = "; choose a split, as in dataset['train']" if isinstance(dataset, Mapping) else ""
        raise TypeError(f"score_dataset takes a Dataset, not a value of type {type(dataset).__name__}{hint}")
    names = input_columns(
        dataset.column_names, prompt_column, response_column, reference_column, query_type_column
    )
    plain = dataset.with_format(None).select_columns(list(dict.fromkeys(names.values())))

    floats = {
        name for name, feature in plain.features.items() if str(getattr(feature, "dtype", "")).startswith("float")
    }

    def read(start: int, stop: int) -> dict[str, Sequence[Any]]:
        part = plain[start:stop]
        return {
            field: whole_numbers(part[name]) if name in floats else part[name] for field, name in names.items()
        }

    def with_scores(columns: dict[str, list[Any]]) -> datasets.Dataset:
        types = {name: datasets.Value("string" if name in TEXTS else "float64") for name in columns}
        scores = datasets.Dataset.from_dict(columns, features=datasets.Features(types))
        kept = dataset.remove_columns([name for name in dataset.column_names if name in columns])
        return datasets.concatenate_datasets([kept, scores], axis=1)

    scorer = TableScorer(client, read, len(dataset), batch, keep_going, progress, options, with_scores)
    scored: datasets.Dataset = scorer.table()
    return scored
