"""Flush: writing a frozen memtable into a new SSTable, on the background thread.

The memtable stays readable, and its segment stays in the commit log, until the new table is in the
manifest. So a flush that fails or is cut short by a crash loses nothing; it is simply done again.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from kvctl_node.storage.bloom_filter import BloomFilter
from kvctl_node.storage.crash_points import CrashPoint, OnStep
from kvctl_node.storage.memtable import Memtable
from kvctl_node.storage.sstable_writer import (
    BATCH_BYTES,
    BATCH_ROWS,
    BuiltTable,
    TableSteps,
    build_table,
)

STEPS = TableSteps(
    batch_written=CrashPoint.FLUSH_BATCH_WRITTEN,
    written=CrashPoint.FLUSH_WRITTEN,
    synced=CrashPoint.FLUSH_SYNCED,
    renamed=CrashPoint.FLUSH_RENAMED,
    directory_synced=CrashPoint.FLUSH_DIRECTORY_SYNCED,
    verified=CrashPoint.FLUSH_VERIFIED,
)


def flush(
    directory: Path, memtable: Memtable, table_id: int, bloom_bits_per_key: int, on_step: OnStep
) -> Generator[None, None, BuiltTable]:
    """Make a table of a frozen memtable. Raises `sqlite3.Error` or `OSError`; leaves no file."""
    on_step(CrashPoint.FLUSH_STARTED)
    bloom = BloomFilter.for_keys(memtable.key_count, bloom_bits_per_key)
    batches = memtable.batches(BATCH_ROWS, BATCH_BYTES)
    return (
        yield from build_table(directory, table_id, batches, bloom, steps=STEPS, on_step=on_step)
    )
