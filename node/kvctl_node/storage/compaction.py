"""Compaction: merging SSTables, so that a read has few of them to ask.

*Policy*: size-tiered. A table of up to `base_bytes` is of tier 0, and each tier is `fanout` times
as large as the one before. All neighbouring tables of one tier, once there are `fanout` of them,
become one table, usually of a higher tier; so a record is rewritten once per tier at most. When
that is done is another matter (`compaction_schedule`).

Only neighbours in age are merged, because "newest wins" between two tables must keep meaning what
it meant: a merged table stands in the place of its run. For the same reason an older table counts
as at least of the tier of any newer one, and a table in quarantine divides its elders from its
juniors: it is never merged, and nothing is merged across it.

*Merge*: all tables of the run are read in key order, in step, the newest version of each key is
kept, and the result is written as it comes: memory is bounded by a few blocks per table. Removal
markers go when the run includes the oldest table of all: then nothing older is left for them to
hide. Every block is verified as it is read; a table that turns out damaged stops the merge, and
goes to quarantine instead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from kvctl_node.errors import CorruptRecordError, StorageFullError
from kvctl_node.storage.bloom_filter import BloomFilter
from kvctl_node.storage.crash_points import CrashPoint, OnStep
from kvctl_node.storage.memtable import Batch
from kvctl_node.storage.record_codec import DROPPED_PAYLOAD
from kvctl_node.storage.sstable import SSTable, TableDescription
from kvctl_node.storage.sstable_writer import (
    BATCH_ROWS,
    BuiltTable,
    TableSteps,
    build_table,
)

READ_AHEAD_ROWS = BATCH_ROWS // 4
STEPS = TableSteps(
    batch_written=CrashPoint.COMPACTION_BATCH_WRITTEN,
    written=CrashPoint.COMPACTION_WRITTEN,
    synced=CrashPoint.COMPACTION_SYNCED,
    renamed=CrashPoint.COMPACTION_RENAMED,
    directory_synced=CrashPoint.COMPACTION_DIRECTORY_SYNCED,
    verified=CrashPoint.COMPACTION_VERIFIED,
)


class DamagedTable(NamedTuple):
    """The outcome of a merge that met a damaged table: nothing was made."""

    table_id: int
    damage: str


class Run(NamedTuple):
    """Neighbouring tables, oldest first, that are to become one."""

    tables: tuple[TableDescription, ...]
    reaches_oldest: bool


def tier_of(file_bytes: int, base_bytes: int, fanout: int) -> int:
    """0 up to `base_bytes`, 1 up to `fanout` times that, and so on."""
    tier, bound = 0, base_bytes
    while file_bytes > bound:
        tier, bound = tier + 1, bound * fanout
    return tier


def choose_run(
    tables: Sequence[tuple[TableDescription, bool]],
    *,
    base_bytes: int,
    fanout: int,
    patience: int = 1,
) -> Run | None:
    """The run to merge next, of the lowest tier that has one; None if there is nothing to do.

    `tables` are (description, in quarantine), oldest first. Runs of fewer than `patience` times
    `fanout` tables are passed over.
    """
    best: tuple[int, int, int] | None = None
    tier = 0
    tiers: list[int | None] = []
    for description, quarantined in reversed(tables):
        tier = 0 if quarantined else max(tier, tier_of(description.file_bytes, base_bytes, fanout))
        tiers.insert(0, None if quarantined else tier)
    start = 0
    for value, group in groupby(tiers):
        length = len(list(group))
        if value is not None and length >= patience * fanout and (best is None or value < best[0]):
            best = (value, start, length)
        start += length
    if best is None:
        return None
    _, first, length = best
    return Run(tuple(d for d, _ in tables[first : first + length]), first == 0)


def compact(
    directory: Path,
    run: Run,
    table_id: int,
    *,
    bloom_bits_per_key: int,
    free_bytes: Callable[[], int],
    on_step: OnStep,
) -> Generator[None, None, BuiltTable | DamagedTable]:
    """Merge a run into a new table. Raises `sqlite3.Error`, `OSError`, `StorageFullError`."""
    on_step(CrashPoint.COMPACTION_STARTED)
    needed_bytes = sum(description.file_bytes for description in run.tables)
    if free_bytes() < needed_bytes:
        raise StorageFullError(
            f"merging {len(run.tables)} SSTables needs {needed_bytes} bytes of free disk space."
        )
    bloom = BloomFilter.for_keys(sum(d.row_count for d in run.tables), bloom_bits_per_key)
    sources: list[SSTable] = []
    with ExitStack() as stack:
        for description in run.tables:
            source = SSTable(directory, description, bloom)
            source.open()
            stack.callback(source.close)
            sources.append(source)
        batches = merge(sources, keep_markers=not run.reaches_oldest)
        try:
            return (
                yield from build_table(
                    directory, table_id, batches, bloom, steps=STEPS, on_step=on_step
                )
            )
        except CorruptRecordError:
            for source in sources:
                if source.damage:
                    return DamagedTable(source.description.table_id, source.damage)
            raise


class _Source:
    """One table of a merge, read ahead by a block or more."""

    def __init__(self, table: SSTable) -> None:
        self._batches = table.batches(b"")
        self.places: list[bytes] = []
        self.payloads: list[bytes] = []

    def read_ahead(self) -> bool:
        """Have at least half a batch in memory, or all that is left; False if that is nothing."""
        while len(self.places) < READ_AHEAD_ROWS:
            batch = next(self._batches, None)
            if batch is None:
                break
            self.places += batch[0]
            self.payloads += batch[1]
        return bool(self.places)

    def take(self, bound: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Remove and return what was read up to and including the place `bound`."""
        count = bisect_right(self.places, bound)
        taken = zip(self.places[:count], self.payloads[:count], strict=True)
        del self.places[:count], self.payloads[:count]
        return taken


def merge(tables: Sequence[SSTable], *, keep_markers: bool) -> Iterator[Batch]:
    """The newest version of every key, in order. `tables` are oldest first.

    Raises `CorruptRecordError`.
    """
    sources = [_Source(table) for table in tables]
    while sources := [source for source in sources if source.read_ahead()]:
        # Up to the least of the last places read, every table's entries are in memory.
        bound = min(source.places[-1] for source in sources)
        newest: dict[bytes, bytes] = {}
        for source in sources:
            newest.update(source.take(bound))
        places = sorted(newest)
        if not keep_markers:
            places = [place for place in places if newest[place] != DROPPED_PAYLOAD]
        yield places, [newest[place] for place in places]
