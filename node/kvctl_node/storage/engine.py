"""The storage engine: a durable, sorted map (partition, key) → Record, on SQLite.

This file is the path of a write and of a read; `node/storage/__init__.py` tells the story and names
the files that hold each part.

Caller's duties: one thread; `commit` at the end of every turn, and end the process if it raises;
`maintain` after it. Everything written in a turn becomes durable together, or not at all.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from kvctl_node.config import StorageConfig
from kvctl_node.errors import CorruptRecordError, DataDirectoryError, StorageError
from kvctl_node.ports import Position, Record, ScanPage, StorageStats
from kvctl_node.ring.placed_keys import PlacedKeys
from kvctl_node.storage.commit_log import CommitLog
from kvctl_node.storage.crash_points import CrashPoint, OnStep, ignore_step
from kvctl_node.storage.database import DATABASE_FILE, Database, opening_error, storage_error
from kvctl_node.storage.directory_lock import DirectoryLock
from kvctl_node.storage.disk_mark import NOTED_INODE, DiskMark
from kvctl_node.storage.durable_file import sync_directory
from kvctl_node.storage.hint_log import SqliteHintLog
from kvctl_node.storage.housekeeping import Housekeeping, settle
from kvctl_node.storage.manifest import Manifest
from kvctl_node.storage.memtable import Memtable
from kvctl_node.storage.metadata import Metadata
from kvctl_node.storage.record_codec import ABSENT
from kvctl_node.storage.scan import scan_page
from kvctl_node.storage.sstable import SSTable
from kvctl_node.storage.table_set import TableSet

TABLES_DIRECTORY = "sstables"
SPACE_CHECK_INTERVAL_S = 1.0
SPACE_CHECK_BYTES = 64 * 1024
"""The free space is looked at once a second, and sooner when so much was written meanwhile."""
SEGMENT_BYTES_FACTOR = 4
"""A log segment this many times the memtable limit is cut even if its memtable is small: a key that
is overwritten for ever must not make the log grow for ever."""
PARTITIONS = "storage.partitions"
"""Metadata: the number of partitions the directory was made with."""


class SqliteStorageEngine:
    """The `StorageEngine` of a node. Made by `open`."""

    def __init__(
        self,
        directory: Path,
        config: StorageConfig,
        lock: DirectoryLock,
        mark: DiskMark,
        database: Database,
        *,
        free_bytes: Callable[[], int],
        on_step: OnStep,
    ) -> None:
        """Reads the manifest and replays the commit log. Raises `StorageError`, `sqlite3.Error`."""
        self._config = config
        self._lock = lock
        self._mark = mark
        self._database = database
        self._free_bytes = free_bytes
        self._on_step = on_step
        self._failed = False
        self._has_space = True
        self._space_checked_s = float("-inf")
        self._unwritten_bytes = 0
        """Content put since the last commit, which no look at the disk can see."""
        self._unchecked_bytes = 0
        """Content committed since the last look at the free space."""
        self._space_check_due_bytes = 0
        """Look at the free space again when so much is put and not committed."""
        self._frozen_max = config.frozen_memtables_max
        tables_directory = directory / TABLES_DIRECTORY
        self._metadata = Metadata(database)
        manifest = Manifest(database)
        self.hints = SqliteHintLog(database, manifest.released_segment + 1)
        """Hints kept for other nodes, in the same transactions as the records."""
        self._tables = _open_tables(tables_directory, manifest)
        self._log = CommitLog(database, manifest.released_sequence)
        self._pending = self._log.pending
        self._housekeeping = Housekeeping(
            tables_directory,
            config,
            database=database,
            log=self._log,
            hints=self.hints,
            manifest=manifest,
            tables=self._tables,
            free_bytes=free_bytes,
            on_step=on_step,
        )
        self._frozen = self._housekeeping.frozen
        self._active = Memtable(manifest.released_segment + 1)
        self._active_get, self._active_put = self._active.entries.get, self._active.put
        self._replay()
        self.disk_doubt = mark.doubt(
            self._metadata.get(NOTED_INODE),
            self._log.last_sequence,
            lost_its_tail=database.lost_its_tail,
        )
        """Why the disk may not be the one that stopped here (`disk_mark`); "" if it is. The next
        commit makes it the node's own: it must be the one that notes what follows."""
        self._metadata.set(NOTED_INODE, mark.inode)

    @classmethod
    def open(
        cls,
        directory: Path,
        config: StorageConfig,
        *,
        partitions: int,
        on_step: OnStep = ignore_step,
        free_bytes: Callable[[], int] | None = None,
    ) -> SqliteStorageEngine:
        """Open, or create, the store in `directory`, and recover what was committed.

        `partitions` is fixed for a directory's life. `on_step` and `free_bytes` (free disk space)
        are for tests. Raises `DataDirectoryError` (in use, unusable, of a newer format),
        `CorruptRecordError` (its database is damaged: rebuild the node), `StorageError`.
        """
        try:
            (directory / TABLES_DIRECTORY).mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        except OSError as error:
            raise DataDirectoryError(
                f"The data directory {directory} cannot be created: {error.strerror}."
            ) from error
        lock = DirectoryLock.acquire(directory)
        mark: DiskMark | None = None
        database: Database | None = None
        try:
            mark = DiskMark.open(directory)
            database = Database.open(directory / DATABASE_FILE, config)
            engine = cls(
                directory,
                config,
                lock,
                mark,
                database,
                free_bytes=free_bytes or (lambda: shutil.disk_usage(directory).free),
                on_step=on_step,
            )
            engine._claim_partitions(partitions)
            _remove_orphans(directory / TABLES_DIRECTORY, engine._tables)
            sync_directory(directory)
        except (sqlite3.Error, UnicodeDecodeError, OSError, StorageError) as error:
            if database is not None:
                database.connection.close()
            if mark is not None:
                mark.close()
            lock.release()
            if isinstance(error, sqlite3.Error | UnicodeDecodeError):
                raise opening_error(error, directory) from error
            if isinstance(error, OSError):
                raise StorageError(
                    f"The data directory {directory} is not usable: {error.strerror}."
                ) from error
            raise
        engine._housekeeping.start()
        return engine

    def _replay(self) -> None:
        """Rebuild the memtables: the segments of the log that no SSTable covers."""
        for batch in self._log.replay():
            if batch.segment != self._active.segment:
                if batch.segment != self._active.segment + 1 or not self._holds_something():
                    raise CorruptRecordError(
                        f"The commit log has a gap before segment {batch.segment}."
                    )
                self._rotate(batch.sequence - 1)
            for partition, key, record in batch.entries:
                self._active.put(partition, key, record)
            for change in batch.hints:
                self.hints.apply(change)

    def _holds_something(self) -> bool:
        """Whether the segment of the log now being written has anything in it."""
        return bool(self._active.key_count or self.hints.active.count)

    def _claim_partitions(self, partitions: int) -> None:
        made_with = self._metadata.get(PARTITIONS)
        if made_with is None:
            self.set_metadata(PARTITIONS, str(partitions).encode())  # durable with the first turn
        elif int(made_with) != partitions:
            raise DataDirectoryError(
                f"The data was written with {int(made_with)} partitions, not {partitions}.",
                hint="the number of partitions is fixed for a cluster's life.",
            )

    # ------------------------------------------------------------ read path

    def get(self, partition: int, key: bytes) -> Record | None:
        """The newest record, or None. Raises `CorruptRecordError` rather than guess."""
        record = self._active_get(key, ABSENT)
        if record is not ABSENT:
            return record
        for memtable in reversed(self._frozen):
            record = memtable.entries.get(key, ABSENT)
            if record is not ABSENT:
                return record
        return self._tables.find(partition, key)

    def may_hold(self, placed: PlacedKeys) -> Collection[int]:
        """Which of these keys, by index, may have a record; all others certainly have none."""
        keys = placed.keys
        maybe = self._active.may_hold(keys)
        if len(maybe) < len(keys):
            for memtable in self._frozen:
                maybe |= memtable.may_hold(keys)
            maybe |= self._tables.may_hold(placed.hashes)
        return maybe

    def scan(self, start: Position, stop_partition: int, *, limit: int, bytes_max: int) -> ScanPage:
        """A page in (partition, key) order; see `StorageEngine.scan`. `CorruptRecordError`."""
        try:
            return scan_page(
                [self._active, *reversed(self._frozen)],
                self._tables.newest_first,
                start,
                stop_partition,
                limit=limit,
                bytes_max=bytes_max,
            )
        except CorruptRecordError:
            self._tables.corrupt_records += 1
            raise

    def metadata(self, name: str) -> bytes | None:
        """A metadata value, including one set in this turn; None if it was never set."""
        return self._metadata.get(name)

    # ------------------------------------------------------------ write path

    def put(self, partition: int, key: bytes, record: Record) -> None:
        """Replace the record of a key; durable after `commit`."""
        self._unwritten_bytes += len(record.content)
        self._active_put(partition, key, record)
        self._pending.append((partition, key, record))

    def put_new(self, placed: PlacedKeys, records: Sequence[Record]) -> None:
        """Set the records of different keys, all of which `may_hold` has just excluded."""
        self._unwritten_bytes += sum([len(record.content) for record in records])
        self._active.put_new(placed, records)
        self._pending.extend(zip(placed.partitions, placed.keys, records, strict=True))

    def drop(self, partition: int, key: bytes) -> None:
        """Forget this copy; durable after `commit`."""
        self._active.put(partition, key, None)
        self._pending.append((partition, key, None))

    def set_metadata(self, name: str, value: bytes) -> None:
        """Set a metadata value; durable after `commit`."""
        self._metadata.set(name, value)

    def commit(self) -> None:
        """Make the turn durable: one transaction, one log row. Raises `StorageError`.

        After an error the engine refuses further commits: what is in memory is no longer what is
        on disk, and only a restart brings them together.
        """
        if not self._pending and not self._metadata.pending and not self.hints.pending:
            return
        if self._failed:
            raise StorageError("An earlier commit failed; this engine cannot store any more.")
        self._on_step(CrashPoint.COMMIT_STARTED)
        try:
            if self._metadata.pending:
                with self._database.transaction(0):
                    self._metadata.write()
                    self._log.write(self._active.segment, self.hints.pending)
                self._metadata.pending.clear()
            else:
                self._log.write(self._active.segment, self.hints.pending)
        except sqlite3.Error as error:
            self._failed = True
            raise storage_error(error, "committing a turn") from error
        self._on_step(CrashPoint.COMMITTED)
        self._mark.write(self._log.last_sequence)
        self._on_step(CrashPoint.COMMIT_NOTED)
        self._unchecked_bytes += self._unwritten_bytes
        self._unwritten_bytes = 0
        self._plan_space_check()
        limit = self._config.memtable_bytes
        if (
            self._active.memory_bytes + self.hints.active.memory_bytes >= limit
            or self._log.segment_bytes >= SEGMENT_BYTES_FACTOR * limit
        ):
            self._rotate(self._log.last_sequence)

    def _rotate(self, last_sequence: int) -> None:
        """Freeze the active memtable and begin a new one, and with it a new log segment."""
        full = self._active
        full.last_sequence = last_sequence
        self._active = Memtable(full.segment + 1)
        self._active_get, self._active_put = self._active.entries.get, self._active.put
        self._log.start_segment()
        self.hints.freeze()
        self._housekeeping.freeze(full)

    def accepts_writes(self) -> bool:
        """False while the disk is nearly full, or too many memtables wait to be flushed."""
        if len(self._frozen) >= self._frozen_max:
            return False
        if self._unwritten_bytes >= self._space_check_due_bytes:
            self._space_checked_s = time.monotonic()
            self._unchecked_bytes = 0
            self._has_space = self._check_space()
            self._plan_space_check()
        return self._has_space

    def _plan_space_check(self) -> None:
        """The free space is looked at after so many bytes more; at once, if that was long ago."""
        if time.monotonic() - self._space_checked_s >= SPACE_CHECK_INTERVAL_S:
            self._space_check_due_bytes = 0
        else:
            self._space_check_due_bytes = SPACE_CHECK_BYTES - self._unchecked_bytes

    def _check_space(self) -> bool:
        try:
            return (
                self._free_bytes() - self._unwritten_bytes >= self._config.disk_reserve_bytes
                and not self._database.is_nearly_full(self._unwritten_bytes)
            )
        except (OSError, sqlite3.Error):
            return False

    def check_directory(self) -> None:
        """Raises `DirectoryGoneError` if the directory was removed, moved or replaced."""
        self._mark.check_in_place()

    # ------------------------------------------------------------ housekeeping

    def maintain(self) -> bool:
        """A bounded slice of housekeeping; True if more could be done right now.

        A full disk does not raise: it stands in `stats().background_error` and is tried again.
        """
        self._plan_space_check()
        return self._housekeeping.run_slice()

    def forget_quarantined(self, partitions: Collection[int]) -> None:
        """Give up what is damaged in these partitions, once this turn is committed (`lost_table`).

        Those keys are then missing here. Done in the background: `stats().corrupt_sstables` says
        when. After a crash before that, or if more is damaged, it is in quarantine still.
        """
        self._housekeeping.forget_quarantined(partitions)

    def freeze_memtable(self) -> None:
        """Send everything committed so far on its way into an SSTable. Not within a turn."""
        assert not self._pending
        assert not self.hints.pending
        if self._holds_something():
            self._rotate(self._log.last_sequence)

    def settle(self, timeout_s: float) -> bool:
        """Block until no housekeeping is left; False if the time is over first. Not for a loop."""
        return settle(self._housekeeping, timeout_s)

    def stats(self) -> StorageStats:
        """Figures for status and metrics.

        `keys_estimate` counts a key once per place that holds it: an upper bound, exact when
        nothing was overwritten or dropped since the last compaction of everything.
        """
        memtables = [self._active, *self._frozen]
        memtable_keys = sum(memtable.key_count for memtable in memtables)
        tables = self._tables
        descriptions = [table.description for table in tables.newest_first]
        table_keys = sum(description.row_count for description in descriptions)
        return StorageStats(
            keys_estimate=memtable_keys + table_keys,
            memtable_keys=memtable_keys,
            memtable_bytes=sum(memtable.memory_bytes for memtable in memtables),
            frozen_memtables=len(self._frozen),
            log_bytes=self._log.total_bytes,
            sstables=len(descriptions),
            sstable_keys=table_keys,
            sstable_bytes=sum(description.file_bytes for description in descriptions),
            bloom_negatives=tables.bloom_negatives,
            bloom_hits=tables.bloom_hits,
            bloom_false_positives=tables.bloom_false_positives,
            flushes=self._housekeeping.flushes,
            compactions=self._housekeeping.compaction.completed,
            compaction_due=self._housekeeping.compaction.is_due,
            corrupt_sstables=tables.damaged(),
            corrupt_records=tables.corrupt_records,
            background_error=self._housekeeping.error(),
        )

    def check_invariants(self) -> None:
        """Assert what must hold between turns: every log segment is in exactly one place."""
        installed = [table.description for table in reversed(self._tables.newest_first)]
        segment = 0
        for description in installed:
            assert description.first_segment == segment + 1
            segment = description.last_segment
        for memtable in [*self._frozen, self._active]:
            assert memtable.segment == segment + 1
            segment = memtable.segment
        released = installed[-1].last_sequence if installed else 0
        assert self._log.released_sequence == released
        self._log.check_invariants()
        assert self.hints.active.segment == self._active.segment
        sequences = [released, *(m.last_sequence for m in self._frozen), self._log.last_sequence]
        assert sequences == sorted(sequences)

    def close(self) -> None:
        """Abandon background work and release the files. What was not committed is lost."""
        self._housekeeping.stop()
        self._tables.close()
        try:
            self._database.close()
        finally:
            self._mark.close()
            self._lock.release()


def _open_tables(directory: Path, manifest: Manifest) -> TableSet:
    """Open every table the manifest names; unusable ones are in quarantine, not left out."""
    tables = []
    for description in manifest.descriptions:
        table = SSTable(directory, description, manifest.load_bloom(description))
        table.open()
        tables.append(table)
    return TableSet(tables)


def _remove_orphans(directory: Path, tables: TableSet) -> None:
    """Remove files that a crash left unfinished or unlisted."""
    listed = {table.description.file_name for table in tables.newest_first}
    for path in directory.iterdir():
        if path.name not in listed:
            path.unlink()
