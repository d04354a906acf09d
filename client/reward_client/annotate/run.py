"""Annotates rows, several at a time, in the order of the input."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from reward_client.annotate.annotators import Annotator
from reward_client.annotate.rows import Label, PromptRow
from reward_client.score_file import Progress


def annotate(
    rows: Sequence[PromptRow], annotator: Annotator, *, concurrency: int
) -> Iterator[tuple[PromptRow, Label, Progress]]:
    """The label of each row, with the progress. Raises RewardError when no further request can succeed.

    Args:
        rows: of the input.
        annotator: is called in threads.
        concurrency: calls at a time.
    """
    started = time.monotonic()
    with ThreadPoolExecutor(concurrency) as pool:
        waiting: deque[tuple[PromptRow, Future[Label]]] = deque()
        left, done = iter(rows), 0
        try:
            while True:
                while len(waiting) < 2 * concurrency and (row := next(left, None)) is not None:
                    waiting.append((row, pool.submit(annotator, row)))
                if not waiting:
                    return
                row, future = waiting.popleft()
                label = future.result()
                done += 1
                rate = done / max(time.monotonic() - started, 1e-9)
                yield row, label, Progress(done, len(rows), rate)
        finally:
            for _, future in waiting:
                future.cancel()
