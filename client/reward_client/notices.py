"""The notices of several replies as those of one."""

import re
from collections.abc import Iterable

_COUNTED = re.compile(r"(\d+) of (\d+) (.+)", re.DOTALL)
"""A notice on a part of the items, as `3 of 64 prompts are not in the data set 'train'`."""


def join_notices(*replies: Iterable[str]) -> list[str]:
    """Each notice once, in the order in which they came; counts of a part of the items are added up."""
    sums: dict[str, tuple[int, int] | None] = {}
    for notice in (notice for reply in replies for notice in reply):
        counted = _COUNTED.fullmatch(notice)
        if counted is None:
            sums[notice] = None
        else:
            part, whole = sums.get(counted[3]) or (0, 0)
            sums[counted[3]] = part + int(counted[1]), whole + int(counted[2])
    return [f"{found[0]} of {found[1]} {text}" if found else text for text, found in sums.items()]
