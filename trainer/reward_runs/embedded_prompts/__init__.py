"""The embedded prompts, written for this project: a run needs no external data set.

    train.jsonl    training prompts
    heldout.jsonl  evaluation prompts; none is a near-duplicate of a training prompt

`README.md` in this folder describes the format; `reward_runs.prompts.load_embedded` reads them.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal

__all__ = ["Part", "embedded_file"]

Part = Literal["train", "heldout"]


def embedded_file(part: Part) -> Traversable:
    """Return the file with the JSON lines of `part`."""
    return files(__name__).joinpath(f"{part}.jsonl")
