"""When tables are merged: at once if it must be, otherwise once the node has time for it.

A merge costs more processor time than the flushes whose tables it merges. So a run that is due
waits while memtables fill in quick succession, and a burst of writes is not slowed down by the
merging of what it has just written. It begins once no memtable has filled for `QUIET_S`, or, under
a load that does not end, when it has become `PATIENCE` times as long as it has to be; for every
table more is asked by every read. A long run costs no more per record than a short one, and moves
it further up the tiers.

Putting off what a later quiet moment does for nothing is what the schedulers of larger stores do as
well: Balmau et al., "SILK: Preventing Latency Spikes in Log-Structured Merge Key-Value Stores",
USENIX ATC 2019.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kvctl_node.storage.background import Task, Urgency
from kvctl_node.storage.compaction import DamagedTable, Run, choose_run, compact
from kvctl_node.storage.crash_points import CrashPoint
from kvctl_node.storage.installation import Installation
from kvctl_node.storage.sstable import SSTable, table_file_name
from kvctl_node.storage.sstable_writer import BuiltTable

if TYPE_CHECKING:
    from kvctl_node.storage.housekeeping import Housekeeping

QUIET_S = 2.0
"""A node whose last memtable filled so long ago has time to merge."""
PATIENCE = 3
"""A run that has become so many times as long as it has to be no longer waits."""


class CompactionSchedule:
    """Merges runs of tables, one at a time."""

    def __init__(self, housekeeping: Housekeeping) -> None:
        self.completed = 0
        self._housekeeping = housekeeping
        self._current: tuple[Run, Task] | None = None
        self._waiting = False
        """A run is due, and waits for a quiet time."""
        self._quiet_at_s = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether tables are being merged, or are going to be without another write."""
        return self._waiting or self._current is not None

    def on_memtable_full(self) -> None:
        """Writes come in: what can wait waits a little longer."""
        self._quiet_at_s = time.monotonic() + QUIET_S

    @property
    def has_work(self) -> bool:
        """Whether `consider` would begin a run now that it left waiting before."""
        return self._waiting and time.monotonic() >= self._quiet_at_s

    def consider(self, *, hurry: bool = False) -> None:
        """Begin to merge a run, if one is due, need not wait, and none is being merged."""
        if self._current is not None:
            return
        run = self._due_run(1)
        self._waiting = run is not None
        if run is None:
            return
        if not hurry and time.monotonic() < self._quiet_at_s:
            run = self._due_run(PATIENCE)
        if run is not None:
            self._begin(run)

    def _due_run(self, patience: int) -> Run | None:
        housekeeping = self._housekeeping
        return choose_run(
            housekeeping.tables.oldest_first(),
            base_bytes=housekeeping.config.memtable_bytes,
            fanout=housekeeping.config.compaction_fanout,
            patience=patience,
        )

    def _begin(self, run: Run) -> None:
        housekeeping, config = self._housekeeping, self._housekeeping.config
        self._waiting = False
        table_id = housekeeping.take_table_id()
        task = housekeeping.worker.submit(
            "compaction",
            Urgency.COMPACTION,
            lambda: compact(
                housekeeping.directory,
                run,
                table_id,
                bloom_bits_per_key=config.bloom_bits_per_key,
                free_bytes=lambda: housekeeping.free_bytes() - config.disk_reserve_bytes,
                on_step=housekeeping.on_step,
            ),
            lambda result: self._on_merged(run, result),
        )
        self._current = (run, task)

    def _on_merged(self, run: Run, result: BuiltTable | DamagedTable) -> None:
        housekeeping = self._housekeeping
        if isinstance(result, DamagedTable):
            housekeeping.quarantine(result.table_id, result.damage)
            return
        current = self._current is not None and self._current[0] is run
        if current and not self._is_damaged(run):
            housekeeping.enqueue(
                Installation(
                    result,
                    run.tables,
                    CrashPoint.COMPACTION_INSTALLING,
                    lambda: self._on_installed(run),
                )
            )
            return
        # A table of the run went to quarantine meanwhile: what was made of it is not used.
        housekeeping.remove_files([housekeeping.directory / table_file_name(result.table_id)])
        if current:
            self._end()

    def _on_installed(self, run: Run) -> None:
        housekeeping = self._housekeeping
        self.completed += 1
        housekeeping.on_step(CrashPoint.COMPACTION_INSTALLED)
        housekeeping.remove_files([housekeeping.directory / old.file_name for old in run.tables])
        self._end()

    def on_quarantine(self, table: SSTable) -> None:
        """The table is no longer merged: give up the run it is part of.

        Not if it was merged already, soundly, and the outcome is about to be installed: until that
        is done, nothing else may be made of the tables of the run.
        """
        if self._current is None or table.description not in self._current[0].tables:
            return
        if not self._housekeeping.is_replaced(table.description):
            self._current[1].cancelled = True
            self._end()

    def _is_damaged(self, run: Run) -> bool:
        tables = self._housekeeping.tables.oldest_first()
        return any(damaged for description, damaged in tables if description in run.tables)

    def _end(self) -> None:
        self._current = None
        self.consider()
