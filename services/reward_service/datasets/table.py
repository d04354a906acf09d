"""One data set: a SQLite database of references by the key of their prompt, complete and never changed.

    path ─▶ Dataset.open ─┐
    DatasetWriter.finish ─┴▶ Dataset ── find(key) ─▶ StoredRow | None

Threads may share a Dataset. Its connection is closed when no request refers to it any more, so a data set that was
replaced or deleted still serves the requests that began before.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from reward_client.wire import DatasetInfo, QueryType, QueryTypeSource
from reward_service.errors import StorageError

FORMAT = 1
"""`user_version` of the databases that this release writes and reads."""
SCHEMA = f"""
PRAGMA user_version = {FORMAT};
CREATE TABLE info (content TEXT NOT NULL);
CREATE TABLE prompts (
    key BLOB PRIMARY KEY, is_main INTEGER NOT NULL, line INTEGER NOT NULL, answers TEXT NOT NULL,
    query_type TEXT NOT NULL, source TEXT NOT NULL
) WITHOUT ROWID;
"""
"""`is_main` is 1 for the key of a prompt as it was uploaded, 0 for the other forms of it."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class StoredRow:
    """What a data set keeps of a row besides the key of its prompt."""

    answers: tuple[str, ...]
    """The references that are not blank."""
    query_type: QueryType
    source: QueryTypeSource
    """Whether the row itself had the query type."""


def connect(target: str, *, uri: bool = False) -> sqlite3.Connection:
    """A connection that threads share, one at a time, and that begins no transaction by itself."""
    return sqlite3.connect(target, uri=uri, check_same_thread=False, isolation_level=None)


@contextmanager
def storage_errors(name: str, action: str) -> Iterator[None]:
    """Raise what SQLite and the file system report as StorageError."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        cause = (exc.strerror if isinstance(exc, OSError) else None) or exc
        raise StorageError(f"the data set {name!r} cannot be {action}: {cause}") from exc


class Dataset:
    """A complete data set.

    Args:
        connection: to its database; this object closes it.
        persistent: whether the database is a file.
    """

    def __init__(self, connection: sqlite3.Connection, *, persistent: bool) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._hits = self._misses = 0
        self._rows: weakref.WeakValueDictionary[bytes, StoredRow] = weakref.WeakValueDictionary()
        """Those that a request holds, by key: all requests share one object for a row."""
        weakref.finalize(self, connection.close)
        (content,) = connection.execute("SELECT content FROM info").fetchone()
        self._info = DatasetInfo.model_validate_json(content).model_copy(update={"persistent": persistent})
        self.n_bytes = self._info.n_bytes

    @classmethod
    def open(cls, path: Path) -> Self:
        """The data set in a file, which is never changed. Raises StorageError."""
        with storage_errors(path.stem, "read"):
            connection = connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            try:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version != FORMAT:
                    raise sqlite3.DatabaseError(f"its format is {version}, not {FORMAT}")
                return cls(connection, persistent=True)
            except (sqlite3.Error, TypeError, ValueError) as exc:
                connection.close()
                raise sqlite3.DatabaseError(str(exc)) from exc

    @property
    def info(self) -> DatasetInfo:
        """Its counts, and those of the look-ups so far."""
        return self._info.model_copy(update={"hits": self._hits, "misses": self._misses})

    def find(self, key: bytes) -> StoredRow | None:
        """The row of the prompt with this key; None if the data set does not have it. Raises StorageError."""
        with self._lock, storage_errors(self._info.name, "read"):
            row = self._rows.get(key) or self._read(key)
            if row is None:
                self._misses += 1
            else:
                self._hits += 1
                self._rows[key] = row
        return row

    def _read(self, key: bytes) -> StoredRow | None:
        query = "SELECT answers, query_type, source FROM prompts WHERE key = ?"
        found = self._connection.execute(query, (key,)).fetchone()
        if found is None:
            return None
        answers, query_type, source = found
        return StoredRow(tuple(json.loads(answers)), QueryType(query_type), source)
