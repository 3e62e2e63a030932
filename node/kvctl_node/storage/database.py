"""The node's database file, `data.sqlite`: commit log, manifest and metadata in one place.

One SQLite database, so that one transaction makes a turn durable and one transaction swaps
SSTables in the manifest. It is opened by one connection, on the loop's thread, with
`locking_mode=EXCLUSIVE`:

* no other process can write or checkpoint it. SQLite up to 3.51.2 can corrupt a database when two
  connections race to reset the write-ahead log; with one connection there is no race;
* the index of the write-ahead log lives in ordinary memory and no file lock is taken per
  transaction, which makes a small commit twice as quick (measured: 6 instead of 13 µs).

Write-ahead log: automatic checkpoints are off, since one would land inside some turn's commit.
Housekeeping runs them between turns, after the background thread has synced the log, which halves
the stall (measured for 4 MiB: 8 ms becomes 4).

`durability = "os"` is synchronous=NORMAL: a commit is in the operating system's hands and survives
the end of the process; `"fsync"` is FULL: it is on the medium and survives a power loss.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvctl_node.config import StorageConfig
from kvctl_node.errors import (
    CorruptRecordError,
    DataDirectoryError,
    DataFormatError,
    StorageError,
    StorageFullError,
)
from kvctl_node.storage.wal_tail import has_unreplayed_commits

FORMAT_VERSION = 5
DATABASE_FILE = "data.sqlite"
PAGE_BYTES = 4096
WAL_SUFFIX = "-wal"
WAL_BYTES_KEPT = 16 * 1024 * 1024
TRANSACTION_OVERHEAD_BYTES = 2 * PAGE_BYTES
"""About what a transaction adds to the write-ahead log beside its own data."""

_SCHEMA = """
CREATE TABLE metadata (
    name     TEXT PRIMARY KEY,
    value    BLOB NOT NULL,
    checksum INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE log (
    sequence INTEGER PRIMARY KEY,
    segment  INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    batch    BLOB NOT NULL
) STRICT;
CREATE TABLE hints (
    target   TEXT NOT NULL,
    key      BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    hint     BLOB NOT NULL,
    PRIMARY KEY (target, key)
) WITHOUT ROWID, STRICT;
CREATE TABLE manifest (
    table_id       INTEGER PRIMARY KEY,
    first_segment  INTEGER NOT NULL,
    last_segment   INTEGER NOT NULL,
    last_sequence  INTEGER NOT NULL,
    row_count      INTEGER NOT NULL,
    file_bytes     INTEGER NOT NULL,
    file_checksum  INTEGER NOT NULL,
    low_partition  INTEGER,
    low_key        BLOB,
    high_partition INTEGER,
    high_key       BLOB,
    bloom_bytes    INTEGER NOT NULL,
    bloom_checksum INTEGER NOT NULL,
    checksum       INTEGER NOT NULL
) STRICT;
CREATE TABLE bloom (
    table_id INTEGER NOT NULL,
    chunk    INTEGER NOT NULL,
    bits     BLOB NOT NULL,
    PRIMARY KEY (table_id, chunk)
) STRICT;
"""


class Database:
    """The one connection to `data.sqlite`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, config: StorageConfig) -> None:
        self.path = path
        self.wal_path = path.with_name(path.name + WAL_SUFFIX)
        self.connection = connection
        self.execute = connection.execute
        self.unchecked_bytes = 0
        """Estimate of what was written to the write-ahead log since the last checkpoint."""
        self.lost_its_tail = False
        """Whether the write-ahead log was damaged, and replayed only up to there."""
        self._pages_max = config.database_bytes_max // PAGE_BYTES

    @classmethod
    def open(cls, path: Path, config: StorageConfig) -> Database:
        """Open or create. Raises `DataDirectoryError`, `CorruptRecordError` or `StorageError`."""
        try:
            connection = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        except sqlite3.Error as error:
            raise opening_error(error, path) from error
        database = cls(path, connection, config)
        try:
            database._configure(config.durability)
            database.lost_its_tail = database._replay_log()
            database._check_format()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            connection.close()
            raise opening_error(error, path) from error
        except OSError as error:
            connection.close()
            raise DataDirectoryError(
                f"{database.wal_path} cannot be read: {error.strerror}."
            ) from error
        except StorageError:
            connection.close()
            raise
        return database

    def _configure(self, durability: str) -> None:
        synchronous = "FULL" if durability == "fsync" else "NORMAL"
        for pragma in (
            f"page_size = {PAGE_BYTES}",
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            f"fullfsync = {int(durability == 'fsync')}",
            "wal_autocheckpoint = 0",
            f"journal_size_limit = {WAL_BYTES_KEPT}",
            "cache_size = -4096",
            "mmap_size = 0",
            "temp_store = MEMORY",
            # Where SQLite is built to overwrite what is deleted, that would double the log's cost.
            "secure_delete = OFF",
        ):
            self.execute(f"PRAGMA {pragma}")

    def _replay_log(self) -> bool:
        """Move the write-ahead log into the database; True if it was damaged before its end."""
        _, frames, _ = self.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return frames >= 0 and has_unreplayed_commits(self.wal_path, frames)

    def _check_format(self) -> None:
        version = self._pragma("user_version")
        is_new = (
            version == 0 and not self.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        )
        if version != FORMAT_VERSION and not is_new:
            raise DataFormatError(
                f"{self.path} says data format {version}, and this kvctl reads format "
                f"{FORMAT_VERSION}: another version of kvctl wrote it, or it is damaged.",
                hint="run the kvctl that wrote it.",
            )
        verdict = self.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise CorruptRecordError(f"{self.path} is damaged: {verdict.splitlines()[-1]}.")
        if is_new:
            self.connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
            )
        self._limit(self._pages_max)

    def _pragma(self, name: str) -> int:
        value: int = self.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    def _limit(self, pages: int) -> None:
        if self._pages_max:
            self.execute(f"PRAGMA max_page_count = {max(pages, 1)}")

    def wrote(self, data_bytes: int) -> None:
        """Account for a transaction that wrote about this much."""
        self.unchecked_bytes += data_bytes + TRANSACTION_OVERHEAD_BYTES

    @contextmanager
    def transaction(self, data_bytes: int) -> Iterator[None]:
        """All of the block, or none of it. Raises whatever the block does."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        finally:
            if self.connection.in_transaction:
                self.execute("ROLLBACK")
        self.wrote(data_bytes)

    @contextmanager
    def housekeeping(self, data_bytes: int) -> Iterator[None]:
        """A transaction that may go an eighth over `database_bytes_max`.

        Housekeeping frees space in the end, but first has to write a little: without a reserve a
        full database could never be emptied again.
        """
        self._limit(self._pages_max + self._pages_max // 8 + 64)
        try:
            with self.transaction(data_bytes):
                yield
        finally:
            self._limit(self._pages_max)

    def is_nearly_full(self, coming_bytes: int = 0) -> bool:
        """True when less than an eighth of `database_bytes_max` is left after `coming_bytes`."""
        if not self._pages_max:
            return False
        used = self._pragma("page_count") - self._pragma("freelist_count")
        used += coming_bytes // PAGE_BYTES
        return used > self._pages_max - self._pages_max // 8

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database file. Raises `sqlite3.Error`."""
        self.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self.unchecked_bytes = 0

    def close(self) -> None:
        """Checkpoint and close; an open transaction is rolled back."""
        try:
            self.connection.close()
        except sqlite3.Error as error:
            raise storage_error(error, f"closing {self.path}") from error


def opening_error(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> StorageError:
    """`storage_error` for what goes wrong while a database or a data directory is opened.

    The statements there are fixed: where SQLite does not understand one, what it speaks of is gone.
    An error without a code is Python's own, about a value that is no text.
    """
    if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR:
        return CorruptRecordError(f"Damage was found while opening {path}: {error}.")
    return storage_error(error, f"opening {path}")


def storage_error(error: sqlite3.Error | UnicodeDecodeError, doing: str) -> StorageError:
    """The `StorageError` that says what an SQLite error means for the node."""
    code: Any = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary == sqlite3.SQLITE_FULL:
        return StorageFullError(
            f"The disk is full while {doing}.",
            hint="free some disk space, then start the node again; nothing acknowledged is lost.",
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(
        error, UnicodeDecodeError
    ):
        return CorruptRecordError(f"Damage was found while {doing}: {error}.")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY):
        return DataDirectoryError(
            f"The data directory is not usable while {doing}: {error}.",
            hint="check its permissions, and that no other program has the files open.",
        )
    return StorageError(f"SQLite failed while {doing}: {error}.")
