"""The data sets of a service: named, bounded, in memory or in a folder that replicas may share.

    begin(caller, name) ─▶ DatasetWriter ── rows … ── publish ─▶ find(caller, name), infos(caller), delete
       too many, too large: TooLargeError   └─ discard

With API keys, a data set belongs to the key that uploaded it: other keys neither see nor replace it, and names do
not clash. Without keys all callers share one namespace. Keys share `max_datasets` and `datasets_bytes`.

    datasets_dir/OWNER/NAME.sqlite          complete
    datasets_dir/OWNER/NAME.HEX.upload      in progress; removed at start if it is old

What another replica writes to the folder is seen at the next request: the files themselves are the state.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

from reward_client.wire import DatasetInfo, Duplicates, FieldError, QueryType
from reward_service.datasets.disk import DISK_S, WAIT_S, DiskThread
from reward_service.datasets.table import Dataset, storage_errors
from reward_service.datasets.writer import DatasetWriter
from reward_service.errors import (
    ConfigurationError,
    SlowDiskError,
    StorageError,
    TooLargeError,
    UnknownDatasetError,
)
from reward_service.fair_share import FairShare
from reward_service.settings import Settings

logger = logging.getLogger(__name__)

DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a data set may be called; it becomes the name of a file."""
_SUFFIX = ".sqlite"
_UPLOAD = ".upload"
_STALE_S = 3600.0
"""Age of an unfinished file at which no process can be writing it any more; `request_timeout_s` is shorter."""
_EVERYONE = "all"
"""Owner of all data sets where there are no API keys."""

_Stamp = tuple[int, ...]
ResultT = TypeVar("ResultT")


class DatasetStore:
    """The data sets. Threads may share it. Raises ConfigurationError if `datasets_dir` cannot be used."""

    def __init__(self, settings: Settings, *, with_keys: bool) -> None:
        self._settings = settings
        self._folder = settings.datasets_dir
        self._with_keys = with_keys
        self._lock = threading.Lock()
        self._disk = DiskThread()
        self._kept: dict[tuple[str, str], tuple[_Stamp, Dataset]] = {}
        """By owner and name, with what changes when the file is replaced."""
        self._writers: WeakKeyDictionary[DatasetWriter, str] = WeakKeyDictionary()
        """Uploads in progress, with their owners; weak, because an upload may be cancelled before it can `end`."""
        if self._folder is None:
            logger.debug("data sets are kept in memory until this process ends; datasets_dir keeps them on disk")
        else:
            _prepare(self._folder)
            with self._lock:
                self._read_folder()

    @property
    def max_found_chars(self) -> int:
        """Characters of the references that the items of one request may find: no more than a body may bring."""
        return self._settings.max_body_bytes

    @property
    def is_persistent(self) -> bool:
        """Whether data sets survive the end of the process."""
        return self._folder is not None

    def find(self, caller: str, name: str) -> Dataset:
        """The data set `name` of `caller`. Raises UnknownDatasetError, or StorageError if its file is damaged."""
        owner = self._owner(caller)
        if DATASET_NAME.fullmatch(name):
            found = self._on_disk(lambda: self._look_up(owner, name), DISK_S)
            if found is not None:
                return found
        raise self._unknown(caller, name)

    def _look_up(self, owner: str, name: str) -> Dataset | None:
        with self._locked():
            if self._folder is not None:
                self._read_file(owner, name)
            return self._kept[owner, name][1] if (owner, name) in self._kept else None

    def infos(self, caller: str, max_wait_s: float = WAIT_S) -> list[DatasetInfo]:
        """The data sets of `caller`, by name. Raises SlowDiskError."""
        return self._on_disk(lambda: self._infos(self._owner(caller)), max_wait_s)

    def _infos(self, owner: str) -> list[DatasetInfo]:
        with self._locked():
            self._read_folder()
            return [dataset.info for (of, _), (_, dataset) in sorted(self._kept.items()) if of == owner]

    def delete(self, caller: str, name: str) -> None:
        """Remove a data set; requests that began before still find its rows. Raises UnknownDatasetError."""
        owner = self._owner(caller)
        self.find(caller, name)
        with self._locked(), storage_errors(name, "deleted"):
            if self._folder is not None:
                self._path(owner, name).unlink(missing_ok=True)
            self._kept.pop((owner, name), None)

    # Upload -----------------------------------------------------------------------------------------------------

    def begin(self, caller: str, name: str, duplicates: Duplicates) -> DatasetWriter:
        """A writer of a new data set, to be published or discarded. Raises TooLargeError: there are too many."""
        return self._on_disk(lambda: self._begin(self._owner(caller), name, duplicates))

    def _begin(self, owner: str, name: str, duplicates: Duplicates) -> DatasetWriter:
        with self._locked():
            self._read_folder()
            count = FairShare(self._settings.max_datasets)
            for of in [of for of, other in self._kept if (of, other) != (owner, name)] + [*self._writers.values()]:
                count.add(of, 1)
            if not count.allows(owner, 1):
                raise TooLargeError(
                    f"{count.total:.0f} data sets are kept, {count.used(owner):.0f} of them yours; at most "
                    f"{count.limit} are allowed, which API keys share. Delete one first."
                )
            temporary = None
            if self._folder is not None:
                temporary = self._folder / owner / f"{name}.{uuid.uuid4().hex}{_UPLOAD}"
            writer = DatasetWriter(
                name,
                temporary,
                duplicates=duplicates,
                max_references=self._settings.max_references,
                max_chars=self._settings.max_item_chars,
            )
            self._writers[writer] = owner
        return writer

    def check_size(self, writer: DatasetWriter) -> None:
        """Raise TooLargeError if the data sets, with this one, need more than `datasets_bytes`."""
        own = writer.measure()
        with self._locked(DISK_S):
            size = FairShare(self._settings.datasets_bytes)
            for (owner, _), (_, dataset) in self._kept.items():
                size.add(owner, dataset.n_bytes)
            for other, owner in self._writers.items():
                if other is not writer:
                    size.add(owner, other.n_bytes)
            owner = self._writers[writer]
        if own > size.limit or not size.allows(owner, own):
            raise TooLargeError(
                f"the data set needs more than {own} bytes; others hold {size.total:.0f}, {size.used(owner):.0f} "
                f"of them yours, and {size.limit} are allowed (datasets_bytes), which API keys share",
                [FieldError(field="body", message="has too many rows, or too long references")],
            )

    def publish(self, writer: DatasetWriter, revision: str, query_type_default: QueryType) -> DatasetInfo:
        """Make the data set of `writer` the one of its name, in one step. Raises StorageError."""
        owner = self._writers[writer]
        path = None if self._folder is None else self._path(owner, writer.name)
        info, dataset = writer.finish(path, revision, query_type_default)
        with self._locked():
            self._kept.pop((owner, writer.name), None)
            if dataset is not None:
                self._kept[owner, writer.name] = ((), dataset)
            else:  # another upload may have replaced the file since
                self._read_file(owner, writer.name)
        return info

    def end(self, writer: DatasetWriter) -> None:
        """Forget a writer, whatever the disk does; what it wrote is removed unless it was published."""
        try:
            writer.discard()
        finally:
            with ExitStack() as stack:
                with suppress(SlowDiskError):
                    stack.enter_context(self._locked())
                self._writers.pop(writer, None)

    def _on_disk(self, function: Callable[[], ResultT], max_wait_s: float = WAIT_S) -> ResultT:
        """The result of `function`, which reads the folder. Raises SlowDiskError if that takes too long."""
        return function() if self._folder is None else self._disk.call(function, max_wait_s)

    def _locked(self, max_wait_s: float = WAIT_S) -> AbstractContextManager[None]:
        return self._disk.locked(self._lock, max_wait_s)

    # Folder -----------------------------------------------------------------------------------------------------

    def _owner(self, caller: str) -> str:
        return caller.replace(" ", "-") if self._with_keys else _EVERYONE

    def _path(self, owner: str, name: str) -> Path:
        assert self._folder is not None  # noqa: S101 - for mypy
        return self._folder / owner / f"{name}{_SUFFIX}"

    def _read_folder(self) -> None:
        """Know the files that are there now. One that is damaged is logged, and counts as missing."""
        if self._folder is None:
            return
        found = {(path.parent.name, path.stem) for path in self._folder.glob(f"*/*{_SUFFIX}")}
        for owner, name in self._kept.keys() | found:
            try:
                self._read_file(owner, name)
            except StorageError as exc:
                logger.warning("%s", exc)

    def _read_file(self, owner: str, name: str) -> None:
        path = self._path(owner, name)
        stamp = _stamp(path)
        if not stamp:
            self._kept.pop((owner, name), None)
        elif (owner, name) not in self._kept or self._kept[owner, name][0] != stamp:
            self._kept.pop((owner, name), None)
            self._kept[owner, name] = (stamp, Dataset.open(path))

    def _unknown(self, caller: str, name: str) -> UnknownDatasetError:
        names = ", ".join(info.name for info in self.infos(caller, DISK_S))
        known = names or "none; upload one with PUT /datasets/NAME"
        message = f"there is no data set {name[:64]!r}; known: {known}"
        return UnknownDatasetError(message, [FieldError(field="dataset", message=message)])


def _stamp(path: Path) -> _Stamp:
    """Changes when the file is replaced; empty if there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _prepare(folder: Path) -> None:
    """Create the folder, and remove what killed processes have left in it. Raises ConfigurationError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f"{uuid.uuid4().hex}{_UPLOAD}"
        probe.touch()
        probe.unlink()
    except OSError as exc:
        raise ConfigurationError(f"datasets_dir {str(folder)!r} cannot be written: {exc.strerror}") from exc
    for path in folder.glob(f"*/*{_UPLOAD}"):
        with suppress(OSError):  # another replica removed it
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()
