"""Scores of tables, columns in and columns out: pandas DataFrames and Hugging Face datasets.

    scored = score_frame(client, frame, response_column="completion", gold=True, keep_going=True)

    columns.py   which columns are read, and which ones the scores have
    scoring.py   every row is checked ─▶ batches ─▶ columns of the scores
    pandas_frame.py, hub_dataset.py      the two libraries, each imported when it is used

Cells may be what the libraries hold: text, messages, lists, NumPy arrays, missing values. The result is a new
table: the columns of the input, then `reward`, `query_type`, `flags`, `error`, `feature.NAME`; with `gold=True`
also `gold_reward`, and `gold_reward.ID` of each of several gold models; with `explain=True` also `part.NAME`, the
part of each factor of the reward. A row without a reward has missing values and an `error`, never a number.
"""

from reward_client.tables.hub_dataset import score_dataset
from reward_client.tables.pandas_frame import score_frame
from reward_client.tables.scoring import show_progress

__all__ = ["score_dataset", "score_frame", "show_progress"]
