"""Housekeeping: what moves data from the commit log into SSTables and keeps both small.

    memtable full ──▶ frozen ──▶ flush (background) ──▶ install ──▶ log segment released, and
                                                          │         deleted in slices
          ┌── compaction (background) ◀── time to merge? ◀┤
          └──▶ install in place of its run ───────────────┘
                    └──▶ merged files unlinked (background)

The background thread only ever makes and removes SSTable files; all that touches the database is
done here, on the loop's thread, by `run_slice` between turns, a bounded transaction at a time.

Order is what makes every crash harmless: a table is complete and durable before the manifest names
it; its segment leaves the log, and its memtable leaves memory, only after that; a merged-away file
is unlinked only once the manifest without it is on the medium.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from pathlib import Path

from kvctl_node.config import StorageConfig
from kvctl_node.storage.background import BackgroundWorker, Urgency
from kvctl_node.storage.commit_log import CommitLog
from kvctl_node.storage.compaction_schedule import CompactionSchedule
from kvctl_node.storage.crash_points import CrashPoint, OnStep
from kvctl_node.storage.database import Database
from kvctl_node.storage.durable_file import sync_file, verify_file
from kvctl_node.storage.flush import flush
from kvctl_node.storage.hint_log import SqliteHintLog
from kvctl_node.storage.installation import Installation
from kvctl_node.storage.lost_table import LostTables
from kvctl_node.storage.manifest import Manifest
from kvctl_node.storage.memtable import Memtable
from kvctl_node.storage.sstable import SSTable, TableDescription
from kvctl_node.storage.sstable_writer import BuiltTable
from kvctl_node.storage.table_set import TableSet

CHECKPOINT_BYTES = 8 * 1024 * 1024
"""A checkpoint of this much takes 4 ms of processor time; rarer and larger ones stall longer."""
CHECKPOINT_BYTES_MAX = 4 * CHECKPOINT_BYTES
"""With this much in the write-ahead log a checkpoint no longer waits for the background sync."""
RETRY_S = 0.5


class Housekeeping:
    """Everything between a full memtable and a well-shaped set of tables."""

    def __init__(
        self,
        directory: Path,
        config: StorageConfig,
        *,
        database: Database,
        log: CommitLog,
        hints: SqliteHintLog,
        manifest: Manifest,
        tables: TableSet,
        free_bytes: Callable[[], int],
        on_step: OnStep,
    ) -> None:
        self.worker = BackgroundWorker("storage")
        self.frozen: list[Memtable] = []
        """Memtables waiting for their SSTable, oldest first. Readable, never changed."""
        self.flushes = 0
        self.directory = directory
        self.config = config
        self._database = database
        self._log = log
        self._hints = hints
        self._manifest = manifest
        self.tables = tables
        self.free_bytes = free_bytes
        self.on_step = on_step
        self._next_table_id = manifest.next_table_id
        self._installations: deque[Installation] = deque()
        self._flushing: Memtable | None = None
        self.compaction = CompactionSchedule(self)
        self._lost = LostTables(self)
        self._checkpoint_requested = False
        self._checkpoint_ready = False
        self._error = ""
        self._retry_at_s = 0.0

    def start(self) -> None:
        """Start the thread; verify every table's file in the background."""
        for table in self.tables.newest_first:
            if not table.damage:
                self._verify(table)
        self.compaction.consider()
        self.worker.start()

    def stop(self) -> None:
        """Abandon what is under way; nothing that was committed depends on it."""
        self.worker.stop()

    def freeze(self, memtable: Memtable) -> None:
        """Take over a full memtable; its last batch is committed."""
        self.frozen.append(memtable)
        self.compaction.on_memtable_full()
        self.on_step(CrashPoint.MEMTABLE_FROZEN)
        self._consider_flush()

    def forget_quarantined(self, partitions: Collection[int]) -> None:
        """Give up what is damaged in every table in quarantine now; see `lost_table`."""
        self._lost.forget_all(partitions)

    def error(self) -> str:
        """Why housekeeping is failing at the moment, "" if it is not."""
        return self._error or next(iter(list(self.worker.errors.values())), "")

    def is_idle(self) -> bool:
        """True when there is nothing left to do, now or in the background."""
        return (
            not self._has_work()
            and not self.compaction.is_due
            and not self.frozen
            and self.worker.is_idle()
        )

    def run_slice(self) -> bool:
        """Deliver results and do one bounded transaction; True if more could be done right now."""
        if self.worker.finished:
            self.worker.deliver_finished()
        if not self._has_work():
            return False
        if self._error and time.monotonic() < self._retry_at_s:
            return False
        try:
            self._do_one()
        except (sqlite3.Error, OSError) as error:
            self._error = f"housekeeping failed: {error}"
            self._retry_at_s = time.monotonic() + RETRY_S
            return False
        self._error = ""
        return self._has_work()

    def _has_work(self) -> bool:
        return bool(
            self._installations
            or self._log.has_garbage
            or self._manifest.has_garbage
            or self._checkpoint_ready
            or (
                self._database.unchecked_bytes >= CHECKPOINT_BYTES
                and not self._checkpoint_requested
            )
            or self._database.unchecked_bytes >= CHECKPOINT_BYTES_MAX
            or self.compaction.has_work
            or self.tables.filters.has_work
        )

    def _do_one(self) -> None:
        if self._checkpoint_ready or self._database.unchecked_bytes >= CHECKPOINT_BYTES_MAX:
            self._checkpoint()
        elif self._database.unchecked_bytes >= CHECKPOINT_BYTES and not self._checkpoint_requested:
            self._checkpoint_requested = True
            self.worker.submit("sync", Urgency.SYNC, self._sync_log, self._on_log_synced)
        elif self._installations:
            self._install(self._installations[0])
        elif self._log.has_garbage:
            self._log.delete_slice()
            self.on_step(CrashPoint.LOG_SLICE_DELETED)
        elif self._manifest.has_garbage:
            self._manifest.delete_garbage_slice()
            self.on_step(CrashPoint.BLOOM_GARBAGE_DELETED)
        elif self.compaction.has_work:
            self.compaction.consider()
        else:
            self.tables.filters.improve()

    # ------------------------------------------------------------ write-ahead log

    def _sync_log(self) -> Generator[None, None, None]:
        """Background: sync the write-ahead log, so that the loop's checkpoint need not wait."""
        sync_file(self._database.wal_path)
        yield

    def _on_log_synced(self, _: None) -> None:
        self._checkpoint_ready = True

    def _checkpoint(self) -> None:
        self.on_step(CrashPoint.CHECKPOINT_STARTED)
        self._database.checkpoint()
        self._checkpoint_ready = self._checkpoint_requested = False
        self.on_step(CrashPoint.CHECKPOINTED)

    # ------------------------------------------------------------ flush

    def _consider_flush(self) -> None:
        """Flush the oldest frozen memtable not yet flushed; one at a time, so in order."""
        if self._flushing is not None:
            return
        done = {id(i.source) for i in self._installations}
        memtable = next((m for m in self.frozen if id(m) not in done), None)
        if memtable is None:
            return
        self._flushing = memtable
        table_id = self.take_table_id()
        bits = self.config.bloom_bits_per_key
        self.worker.submit(
            "flush",
            Urgency.FLUSH,
            lambda: flush(self.directory, memtable, table_id, bits, self.on_step),
            self._on_flushed,
        )

    def _on_flushed(self, built: BuiltTable) -> None:
        memtable = self._flushing
        assert memtable is not None
        self._flushing = None
        self._installations.append(
            Installation(
                built,
                memtable,
                CrashPoint.FLUSH_INSTALLING,
                lambda: self._on_flush_installed(memtable),
            )
        )
        self._consider_flush()

    def _on_flush_installed(self, memtable: Memtable) -> None:
        self.tables.forget_answers()
        self.frozen.remove(memtable)
        self._log.release(memtable.last_sequence)
        self.flushes += 1
        self.on_step(CrashPoint.FLUSH_INSTALLED)
        self.compaction.consider()

    def quarantine(self, table_id: int, damage: str) -> None:
        """A table was found damaged: it is no longer merged."""
        table = self.tables.by_id(table_id)
        if table is None:
            return
        if not table.damage:
            table.condemn(damage)
        self.compaction.on_quarantine(table)

    # ------------------------------------------------------------ verification

    def _verify(self, table: SSTable) -> None:
        """Compare a whole file with its checksum, in the background, least urgent of all."""
        description, path = table.description, table.path

        def on_verified(damage: str) -> None:
            if damage:
                self.quarantine(description.table_id, damage)

        self.worker.submit(
            f"verify {path.name}",
            Urgency.VERIFICATION,
            lambda: verify_file(path, description.file_checksum),
            on_verified,
        )

    # ------------------------------------------------------------ installing tables

    def take_table_id(self) -> int:
        """An id no table has had."""
        table_id = self._next_table_id
        self._next_table_id += 1
        return table_id

    def enqueue(self, installation: Installation) -> None:
        """Install a built table, after those that were built before it."""
        self._installations.append(installation)

    def is_replaced(self, description: TableDescription) -> bool:
        """Whether a table is gone from the manifest, or will be by an installation under way."""
        return self.tables.by_id(description.table_id) is None or any(
            description in installation.replaced for installation in self._installations
        )

    def _install(self, installation: Installation) -> None:
        """Do a bounded part of an installation: hints, filter, and last the manifest."""
        description, source = installation.description, installation.source
        if isinstance(source, Memtable) and self._hints.must_store(source.segment):
            self._hints.store_slice()
            self.on_step(CrashPoint.HINTS_STORED)
            return
        if not installation.staged:
            chunk = installation.chunks_staged
            left = self._manifest.stage_bloom(description.table_id, installation.bloom_data, chunk)
            self.on_step(CrashPoint.BLOOM_CHUNK_STAGED)
            installation.chunks_staged += 1
            installation.staged = left == 0
            return
        table = SSTable(self.directory, description, installation.bloom)
        table.open()
        if table.damage:
            raise OSError(f"the new table {description.file_name} is damaged: {table.damage}")
        self.on_step(installation.before)
        try:
            self._manifest.install(description, installation.replaced)
        except sqlite3.Error:
            table.close()
            raise
        self._installations.popleft()
        self.tables.replace(table, installation.replaced)
        installation.installed()

    def remove_files(self, paths: Sequence[Path]) -> None:
        """Unlink tables the manifest does not name, once it is durable that it does not.

        In the background, because unlinking a large file takes milliseconds.
        """

        def remove() -> Generator[None, None, None]:
            sync_file(self._database.wal_path)
            for path in paths:
                self.on_step(CrashPoint.TABLE_UNLINKING)
                path.unlink(missing_ok=True)
                self.on_step(CrashPoint.TABLE_UNLINKED)
                yield

        self.worker.submit("removal of merged tables", Urgency.COMPACTION, remove, lambda _: None)


def settle(housekeeping: Housekeeping, timeout_s: float) -> bool:
    """Run housekeeping until nothing is left to do; False if the time is over first.

    What waits for a quiet time is done now. For tools and tests that may block; a node calls
    `run_slice` between its turns instead. Raises `StorageError`.
    """
    deadline = time.monotonic() + timeout_s
    while not housekeeping.is_idle():
        if time.monotonic() >= deadline:
            return False
        housekeeping.compaction.consider(hurry=True)
        if not housekeeping.run_slice():
            housekeeping.worker.wait(min(0.05, timeout_s))
    return True
