"""Errors of writing files: one sentence with the file, the cause and the next step.

with writing(path): …      an OSError of the block ─▶ OutputError
check_writable(path)       the same, before a command that writes only at its end
check_folder(path)         the same for a folder that may have to be created
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ELSEWHERE = "or write to another place"
_NEXT_STEPS = {
    errno.ENOSPC: f"free space on that disk, {_ELSEWHERE}",
    errno.EDQUOT: f"remove files of yours on that disk, {_ELSEWHERE}",
    errno.EFBIG: f"raise the limit of file sizes (ulimit -f), {_ELSEWHERE}",
    errno.EACCES: f"allow it with chmod, {_ELSEWHERE}",
    errno.EPERM: f"allow it with chmod, {_ELSEWHERE}",
    errno.EROFS: "write to another disk",
    errno.ENOENT: "create the folder {folder}, " + _ELSEWHERE,
    errno.ENOTDIR: "a file has the name of a folder in this path: rename that file, " + _ELSEWHERE,
    errno.EEXIST: "a file has the name of this folder: rename that file, " + _ELSEWHERE,
    errno.EISDIR: "it is a folder: name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class OutputError(Exception):
    """A file or folder cannot be written; `run_program` reports it for every command, with status 2."""


def next_step(path: Path, exc: OSError) -> str:
    """What to do after `exc`, which writing `path` raised."""
    return _NEXT_STEPS.get(exc.errno or 0, "check that disk, " + _ELSEWHERE).format(folder=path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise OutputError, naming `path`, for an OSError of the block."""
    try:
        yield
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc.strerror or exc}; {next_step(path, exc)}") from exc


def check_writable(path: Path) -> None:
    """Raise OutputError if the file `path` cannot be written, as far as that is known before."""
    with writing(path):
        if path.is_dir():
            raise _error(errno.EISDIR)
        if not path.parent.is_dir():
            raise _error(errno.ENOTDIR if path.parent.exists() else errno.ENOENT)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise _error(errno.EACCES)


def check_folder(path: Path) -> None:
    """Raise OutputError if the folder `path` cannot be made or written into, as far as that is known before."""
    with writing(path):
        there = next(one for one in (path, *path.absolute().parents) if one.exists())
        if not there.is_dir():
            raise _error(errno.ENOTDIR)
        if not os.access(there, os.W_OK | os.X_OK):
            raise _error(errno.EACCES)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
