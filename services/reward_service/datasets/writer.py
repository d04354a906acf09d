"""Writes a data set: rows are added to a new database, which becomes visible only when it is complete.

    DatasetWriter(path) ── add(row), add(row), … ── finish ─▶ on the disk ─▶ renamed to its name ─▶ Dataset
                                                └─ discard: removed

A process that is killed in between leaves the previous data set of that name. Threads may share a writer.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from reward_client.wire import ChatMessage, DatasetInfo, Duplicates, QueryType
from reward_service.datasets.keys import row_keys
from reward_service.datasets.table import SCHEMA, Dataset, StoredRow, connect, storage_errors

_BEGIN = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -16384;
{SCHEMA}
BEGIN;
"""
"""A database that is incomplete is discarded, so it needs no journal. New keys are random, so 16 MiB of its pages
are cached."""


class ConflictError(ValueError):
    """A prompt is in the data set already, with other references or another query type."""


class DatasetWriter:
    """A data set that is being uploaded.

    Args:
        name: of the data set.
        temporary: file to write; None for memory.
        duplicates: what happens to a prompt that is added again with other references.
        max_references: of one prompt.
        max_chars: of the references of one prompt.
    """

    def __init__(
        self,
        name: str,
        temporary: Path | None,
        *,
        duplicates: Duplicates,
        max_references: int,
        max_chars: int,
    ) -> None:
        self.name = name
        self.n_rows = 0
        self.n_bytes = 0
        """Bytes of the database when it was last measured; 0 when it is finished or discarded."""
        self._temporary = temporary
        self._duplicates = duplicates
        self._max_references = max_references
        self._max_chars = max_chars
        self._lock = threading.Lock()
        with storage_errors(name, "written"):
            if temporary is not None:
                temporary.parent.mkdir(mode=0o700, exist_ok=True)
            self._connection = connect(":memory:" if temporary is None else str(temporary))
            self._remove = weakref.finalize(self, _remove, self._connection, temporary)
            self._connection.executescript(_BEGIN)

    def add(self, messages: Sequence[ChatMessage], row: StoredRow, line: int) -> None:
        """Add the row of a line of the upload.

        Raises:
            ConflictError: its prompt is that of another line, which differs.
            StorageError: it could not be written.
        """
        with self._lock, storage_errors(self.name, "written"):
            self.n_rows += 1
            for number, key in enumerate(row_keys(messages)):
                values = (key, number == 0, line, _json(row.answers), row.query_type, row.source)
                done = self._connection.execute("INSERT OR IGNORE INTO prompts VALUES (?, ?, ?, ?, ?, ?)", values)
                if not done.rowcount:
                    self._merge(key, row)

    def _merge(self, key: bytes, row: StoredRow) -> None:
        query = "SELECT line, answers, query_type FROM prompts WHERE key = ?"
        line, content, query_type = self._connection.execute(query, (key,)).fetchone()
        answers = json.loads(content)
        new = [answer for answer in dict.fromkeys(row.answers) if answer not in answers]
        if query_type != row.query_type:
            raise ConflictError(f"is the prompt of line {line} too, as {query_type} instead of {row.query_type}")
        if self._duplicates == "fail" and (new or len(set(row.answers)) != len(set(answers))):
            raise ConflictError(f"is the prompt of line {line} too, with another reference")
        if new:
            if len(answers) + len(new) > self._max_references:
                raise ConflictError(
                    f"brings the references of the prompt of line {line} to more than {self._max_references}"
                )
            if sum(map(len, answers + new)) > self._max_chars:
                raise ConflictError(
                    f"brings the references of the prompt of line {line} to more than {self._max_chars} characters"
                )
            update = "UPDATE prompts SET answers = ? WHERE key = ?"
            self._connection.execute(update, (_json(answers + new), key))

    def measure(self) -> int:
        """Bytes of the database now. Raises StorageError."""
        with self._lock, storage_errors(self.name, "written"):
            self.n_bytes = self._measured()
            return self.n_bytes

    def _measured(self) -> int:
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (page_bytes,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int(pages * page_bytes)

    def finish(
        self, path: Path | None, revision: str, query_type_default: QueryType
    ) -> tuple[DatasetInfo, Dataset | None]:
        """Complete the data set, in the file `path` or in memory: its counts, and itself if it is in memory.

        Raises StorageError.
        """
        with self._lock, storage_errors(self.name, "written"):
            counts = self._connection.execute(
                "SELECT query_type, COUNT(*), SUM(answers != '[]') FROM prompts WHERE is_main GROUP BY query_type"
            ).fetchall()
            info = DatasetInfo(
                name=self.name,
                rows=self.n_rows,
                prompts=sum(n for _, n, _ in counts),
                with_reference=sum(n for _, _, n in counts),
                query_types={query_type: n for query_type, n, _ in counts},
                query_type_default=query_type_default,
                revision=revision,
                n_bytes=self._measured(),
                persistent=path is not None,
            )
            self._connection.execute("INSERT INTO info VALUES (?)", (info.model_dump_json(),))
            self._connection.execute("COMMIT")
            if path is None or self._temporary is None:
                self._remove.detach()
                self.n_bytes = 0
                return info, Dataset(self._connection, persistent=False)
            self._connection.close()
            _sync(self._temporary)
            self._temporary.replace(path)
            self._remove.detach()
            self.n_bytes = 0
            _sync(path.parent)
        return info, None

    def discard(self) -> None:
        """Remove the database, unless it was finished. It is removed too when nothing refers to the writer."""
        with self._lock:
            self._remove()
            self.n_bytes = 0


def _json(answers: Sequence[str]) -> str:
    return json.dumps(answers, ensure_ascii=False)


def _remove(connection: sqlite3.Connection, temporary: Path | None) -> None:
    connection.close()
    if temporary is not None:
        with suppress(OSError):  # the next start removes it
            temporary.unlink()


def _sync(path: Path) -> None:
    """Return when a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
