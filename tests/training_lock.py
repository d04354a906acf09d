"""One training of OpenRLHF at a time among the processes of a test run: two starve each other on two cores."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_training() -> Iterator[None]:
    """Wait until no other test trains. The lock ends with the process that holds it."""
    with (Path(tempfile.gettempdir()) / f"glassbox-tests-training-{os.getuid()}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
