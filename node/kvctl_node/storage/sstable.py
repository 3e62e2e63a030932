"""SSTable (sorted string table): an immutable, sorted file of records; here, one SQLite file each.

    blocks(first, checksum, header, records)    `first` is the first place in the block

Records are stored a block at a time (`block`): about fifteen of them share a row. Tables are
written once by `sstable_writer` and only read here. They are opened `immutable=1`: no locks, no
journal, no check for changes. No memory map and a small page cache, so that a node's memory does
not grow with its data; the operating system's page cache does that work.

A table never answers from damage. A get believes a block only if its header's checksum holds and
the key lies between its first place and the first place of the block after it; then the key is in
this block or not in the table. The record has a checksum of its own. A scan demands in addition
that each block begins where the one before said. The lowest and highest key are known from the
manifest, so no end is open. Whatever cannot be proven raises `CorruptRecordError`: it is a copy in
need of repair, not evidence of absence.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import msgspec

from kvctl_node.errors import CorruptRecordError
from kvctl_node.ports import Position, Record
from kvctl_node.storage.block import Block, decode_block, header_checksum, place_of
from kvctl_node.storage.bloom_filter import BloomFilter
from kvctl_node.storage.memtable import Batch
from kvctl_node.storage.record_codec import ABSENT, Absent, decode_payload

PAGE_CACHE_KIB = 256
COLUMNS = "first, checksum, header, records"
_AT = "SELECT checksum, header, records FROM blocks WHERE first <= ? ORDER BY first DESC LIMIT 1"
_AFTER = "SELECT checksum, header, records FROM blocks WHERE first > ? ORDER BY first"

RECORD_DAMAGED = "a record does not match its checksum"

UNREADABLE = (sqlite3.Error, TypeError, UnicodeDecodeError, msgspec.DecodeError)
"""What reading damaged pages raises, beside wrong rows: SQLite's own verdict; a column of another
type than was written; an error message of SQLite's that quotes bytes which are no text."""


class TableDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What the manifest knows of a table, and against which the table is checked."""

    table_id: int
    first_segment: int
    last_segment: int
    """The table holds the net effect of these log segments: newer tables have higher ones."""
    last_sequence: int
    """The last log batch covered."""
    row_count: int
    file_bytes: int
    file_checksum: int
    low: Position | None
    high: Position | None
    """First and last key; None in a table without rows (everything merged into it was dropped)."""
    bloom_bytes: int
    bloom_checksum: int

    @property
    def file_name(self) -> str:
        """Name of the table's file in the directory `sstables`."""
        return table_file_name(self.table_id)


def table_file_name(table_id: int) -> str:
    """Tables are numbered in the order in which they are made."""
    return f"{table_id:08d}.sqlite"


class SSTable:
    """One table, open for reading by the thread that made this object."""

    def __init__(self, directory: Path, description: TableDescription, bloom: BloomFilter) -> None:
        self.description = description
        self.bloom = bloom
        self.path = directory / description.file_name
        self.damage = ""
        """Why this table is in quarantine, "" if it is not. It is then never merged nor removed;
        reads that need it are answered only as far as they can be proven."""
        low, high = description.low, description.high
        self._low = b"" if low is None else place_of(*low)
        self._high = b"" if high is None else place_of(*high)
        self._connection: sqlite3.Connection | None = None
        self._reads_anew = False

    def condemn(self, reason: str) -> None:
        """It is damaged: quarantine.

        From now on it is read as it lies on the disk. What SQLite remembers of it may be sound
        where the disk no longer is, and would hide what has to be given up.
        """
        self.damage = self.damage or reason
        self._reads_anew = True

    def open(self) -> None:
        """Open the file; a missing one, or one of the wrong size, puts the table in quarantine.

        Raises `OSError` if no file at all can be opened any more: that is no damage.
        """
        try:
            size = self.path.stat().st_size
        except OSError as error:
            self.damage = f"the file cannot be read ({error.strerror})"
            return
        if size != self.description.file_bytes:
            self.damage = f"the file has {size} bytes instead of {self.description.file_bytes}"
            return
        uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            self._connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
            self._connection.execute("PRAGMA mmap_size = 0")
        except UNREADABLE as error:
            _check_files_can_be_opened(self.path)  # SQLite does not tell why
            self.damage = f"SQLite cannot open it ({error})"

    def close(self) -> None:
        """Release the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def find(self, place: bytes) -> Record | Absent | None:
        """The record, None if the key was dropped, `ABSENT` if provably not in this table.

        Raises `CorruptRecordError`.
        """
        if not self._low <= place <= self._high:
            return ABSENT
        block = self._block_at(place)
        places = block.header.places
        at = bisect_left(places, place)
        if at == len(places) or places[at] != place:
            return ABSENT
        payload = block.payload(at)
        if payload is None:
            self._corrupt(RECORD_DAMAGED)
        return decode_payload(payload)

    def batches(self, start: bytes) -> Iterator[Batch]:
        """All places from `start` on, in order, and their payloads, a block at a time.

        Gapless, or `CorruptRecordError`: each block is checked, and that it follows the one before.
        """
        if not self._low or start > self._high:
            return
        block = self._block_at(max(start, self._low))
        at = bisect_left(block.header.places, start)
        yield block.header.places[at:], self._payloads(block)[at:]
        try:
            for row in self._connected().execute(_AFTER, (block.header.places[0],)):
                expected = block.header.following
                block = self._decode(*row)
                if block.header.places[0] != expected:
                    self._corrupt("rows are missing")
                yield block.header.places, self._payloads(block)
        except UNREADABLE as error:
            self._corrupt(str(error), error)
        if block.header.following or block.header.places[-1] != self._high:
            self._corrupt("rows at its end are missing")

    def _connected(self) -> sqlite3.Connection:
        if self._reads_anew:
            self._reads_anew = False
            self.close()
            try:
                self.open()
            except OSError as error:
                self._corrupt(self.damage, error)
        if self._connection is None:
            self._corrupt(self.damage or "it is closed")
        return self._connection

    def _block_at(self, place: bytes) -> Block:
        """The block that holds everything between its first place, and so `place`, and the next."""
        try:
            row = self._connected().execute(_AT, (place,)).fetchone()
            if row is None:
                self._corrupt("rows at its start are missing")
            block = self._decode(*row)
        except UNREADABLE as error:
            self._corrupt(str(error), error)
        if block.header.places[0] > place:
            self._corrupt("rows are out of order")
        if block.header.following and block.header.following <= place:
            self._corrupt("rows are missing")
        return block

    def _decode(self, checksum: int, header: bytes, records: bytes) -> Block:
        if header_checksum(self.description.table_id, header) != checksum:
            self._corrupt("a block does not match its checksum")
        return decode_block(header, records)

    def _payloads(self, block: Block) -> list[bytes]:
        payloads = block.payloads()
        if payloads is None:
            self._corrupt(RECORD_DAMAGED)
        return payloads

    def _corrupt(self, reason: str, cause: Exception | None = None) -> NoReturn:
        if not self.damage:
            self.condemn(reason)
        raise CorruptRecordError(
            f"SSTable {self.description.file_name} is damaged: {reason}.",
            hint="other replicas still answer; repair or rebuild this node from them.",
        ) from cause


def _check_files_can_be_opened(path: Path) -> None:
    """Raises `OSError` if the process or the system has too many files open for this one."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
