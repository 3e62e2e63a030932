"""Writing an SSTable: blocks in order into a new file, which gets its name only when whole.

    NNNNNNNN.sqlite.tmp   bulk load, no journal, nothing synced yet
    sync, rename, sync the directory
    NNNNNNNN.sqlite       complete; read back once for its checksum; not yet in the manifest

A crash leaves a file that no manifest names, and the next start removes it. Blocks go in several to
a statement: SQLite then works through all of them without the interpreter lock, where
`executemany` would take and release it for every one, and stall under a busy loop.

Runs on the background thread; everything is a generator that yields after a bounded step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from kvctl_node.ports import Position
from kvctl_node.ring.key_hash import hash_of
from kvctl_node.storage.block import (
    encode_block,
    entries_per_block,
    header_checksum,
    key_of,
    position_of,
)
from kvctl_node.storage.bloom_filter import BloomFilter
from kvctl_node.storage.crash_points import CrashPoint, OnStep
from kvctl_node.storage.durable_file import checksum_file, sync_directory, sync_file
from kvctl_node.storage.memtable import Batch
from kvctl_node.storage.sstable import COLUMNS, table_file_name

BATCH_ROWS = 128
BATCH_BYTES = 256 * 1024
TEMPORARY_SUFFIX = ".tmp"
_SCHEMA = """CREATE TABLE blocks (
    first    BLOB PRIMARY KEY NOT NULL,
    checksum INTEGER NOT NULL,
    header   BLOB NOT NULL,
    records  BLOB NOT NULL
)"""
_PRAGMAS = (
    "page_size = 4096",
    "journal_mode = OFF",
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    "cache_size = -1024",
    "temp_store = MEMORY",
)


class TableSteps(NamedTuple):
    """The crash points that the making of a table passes."""

    batch_written: CrashPoint
    written: CrashPoint
    synced: CrashPoint
    renamed: CrashPoint
    directory_synced: CrashPoint
    verified: CrashPoint


class BuiltTable(NamedTuple):
    """A complete table file that is not in the manifest yet."""

    table_id: int
    row_count: int
    file_bytes: int
    file_checksum: int
    low: Position | None
    high: Position | None
    bloom: BloomFilter


class SSTableWriter:
    """Bulk loader of one new file."""

    def __init__(self, path: Path, table_id: int, bloom: BloomFilter) -> None:
        """Creates the file. Raises `sqlite3.Error`."""
        path.unlink(missing_ok=True)
        self.row_count = 0
        self.low: Position | None = None
        self.high: Position | None = None
        self._table_id = table_id
        self._bloom = bloom
        self._places: list[bytes] = []
        self._payloads: list[bytes] = []
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("BEGIN")
        self._connection.execute(_SCHEMA)

    def append(self, batch: Batch) -> None:
        """Add records after all earlier ones, in strictly ascending order. `sqlite3.Error`."""
        places, payloads = batch
        if not places:
            return
        assert not self._places or self._places[-1] < places[0]
        if self.low is None:
            self.low = position_of(places[0])
        self.row_count += len(places)
        self._bloom.add(map(hash_of, map(key_of, places)))
        self._places += places
        self._payloads += payloads
        self._write_blocks()

    def finish(self) -> None:
        """Write the last block, and what SQLite still holds in memory. Raises `sqlite3.Error`."""
        if self._places:
            self.high = position_of(self._places[-1])
            self._write_blocks(last=True)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Release the file, finished or not."""
        self._connection.close()

    def _write_blocks(self, *, last: bool = False) -> None:
        """Write every full block whose following place is known, or, at the end, everything."""
        places, payloads = self._places, self._payloads
        count = entries_per_block(places, payloads)
        ends = list(range(count, len(places), count))
        if last:
            ends.append(len(places))
        values: list[bytes | int] = []
        start = 0
        for end in ends:
            following = places[end] if end < len(places) else b""
            header, records = encode_block(following, places[start:end], payloads[start:end])
            values += (places[start], header_checksum(self._table_id, header), header, records)
            start = end
        if values:
            rows = ",".join(("(?,?,?,?)",) * len(ends))
            self._connection.execute(f"INSERT INTO blocks ({COLUMNS}) VALUES {rows}", values)
            del places[:start], payloads[:start]


def build_table(
    directory: Path,
    table_id: int,
    batches: Iterable[Batch],
    bloom: BloomFilter,
    *,
    steps: TableSteps,
    on_step: OnStep,
) -> Generator[None, None, BuiltTable]:
    """Make a table of `batches` (in order). Raises `sqlite3.Error` or `OSError`; leaves no file.

    Never synced twice after a failure: once fsync fails, what the file holds is unknown, so a
    retry starts over with a new file.
    """
    path = directory / table_file_name(table_id)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    complete = False
    try:
        with closing(SSTableWriter(temporary, table_id, bloom)) as writer:
            for batch in batches:
                writer.append(batch)
                on_step(steps.batch_written)
                yield
            writer.finish()
        on_step(steps.written)
        sync_file(temporary)
        on_step(steps.synced)
        temporary.rename(path)
        on_step(steps.renamed)
        sync_directory(directory)
        on_step(steps.directory_synced)
        file_checksum = yield from checksum_file(path)
        file_bytes = path.stat().st_size
        complete = True
        on_step(steps.verified)
    finally:
        if not complete:
            temporary.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    return BuiltTable(
        table_id, writer.row_count, file_bytes, file_checksum, writer.low, writer.high, bloom
    )
