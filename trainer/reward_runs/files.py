"""Files that several processes read and write: atomic replacement, a lock on a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reward_runs.errors import RunDirectoryError


def replace_text(path: Path, text: str) -> None:
    """Replace the content of `path` atomically: a reader sees the old text or the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


@contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Lock `folder`, creating it if needed; yield the file descriptor of the lock.

    A child process that inherits the descriptor keeps the lock after its parent has died. The kernel releases the
    lock when the last process closes the descriptor, so a killed run leaves no stale lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RunDirectoryError(
                f"{folder} is in use by process {holder}: wait until it ends, or choose another folder"
            ) from exc
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()
