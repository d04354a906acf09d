"""Files that several processes read and write: atomic replacement, added lines, a lock on a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reward_client.writing import writing
from reward_runs.errors import RunDirectoryError


def replace_text(path: Path, text: str) -> None:
    """Replace the content of `path` atomically: a reader sees the old text or the new one. Raises OutputError."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            scratch.write_text(text, encoding="utf-8")
            scratch.replace(path)
        except OSError:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise


@contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Lock `folder`, creating it if needed; yield the file descriptor of the lock.

    A child process that inherits the descriptor keeps the lock after its parent has died. The kernel releases the
    lock when the last process closes the descriptor, so a killed run leaves no stale lock.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / ".lock").open("a+", encoding="utf-8")
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RunDirectoryError(
                f"{folder} is in use by process {holder}: wait until it ends, or choose another folder"
            ) from exc
        with writing(folder):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield file.fileno()


def size(n_bytes: float) -> str:
    """`n_bytes` in the largest unit that they have one of: 7.0 GB, 1.2 MB, 0.0 KB."""
    for unit, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= of:
            return f"{n_bytes / of:.1f} {unit}"
    return f"{n_bytes / 1e3:.1f} KB"
