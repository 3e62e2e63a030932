"""The manifest: which SSTables make up the store, and so where the commit log begins.

A table counts from the moment the manifest names it; a file it does not name is rubbish of a crash.
Each entry carries what is needed to judge the file (size, checksum, row count, lowest and highest
key) and its Bloom filter, so that even of a lost file it is known which keys it *may* have held.

A new table is installed in two parts: its filter in slices, one small transaction each, because
the filter of a large table is megabytes; then one small transaction that adds the entry and removes
the entries it replaces. Filter slices that belong to no entry are garbage, deleted in slices too.

Invariants, checked at open: every entry and filter matches its checksum, and the entries cover the
log segments from 1 on without gap or overlap. So an entry that was lost is noticed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from zlib import crc32

import msgspec

from kvctl_node.errors import CorruptRecordError
from kvctl_node.storage.bloom_filter import BloomFilter
from kvctl_node.storage.database import Database
from kvctl_node.storage.sstable import TableDescription

BLOOM_CHUNK_BYTES = 128 * 1024
_ENCODER = msgspec.msgpack.Encoder()
_COLUMNS = (
    "table_id, first_segment, last_segment, last_sequence, row_count, file_bytes, file_checksum,"
    " low_partition, low_key, high_partition, high_key, bloom_bytes, bloom_checksum,"
    " checksum"
)
_INSERT = f"INSERT INTO manifest ({_COLUMNS}) VALUES ({', '.join('?' * 14)})"


class Manifest:
    """The durable list of SSTables, oldest first."""

    def __init__(self, database: Database) -> None:
        """Reads and checks the list. Raises `CorruptRecordError`, `sqlite3.Error`."""
        self._database = database
        self._execute = database.execute
        self.descriptions: list[TableDescription] = sorted(
            map(_description_of_row, self._execute(f"SELECT {_COLUMNS} FROM manifest")),
            key=lambda description: description.first_segment,
        )
        self._check_coverage()
        self._garbage = deque(
            self._execute(
                "SELECT table_id, chunk FROM bloom"
                " WHERE table_id NOT IN (SELECT table_id FROM manifest)"
            ).fetchall()
        )

    def _check_coverage(self) -> None:
        segment = 0
        for description in self.descriptions:
            if description.first_segment != segment + 1:
                raise CorruptRecordError(
                    f"The manifest has no SSTable for log segment {segment + 1}."
                )
            segment = description.last_segment

    @property
    def released_segment(self) -> int:
        """The newest log segment in SSTables; 0 if there is none."""
        return self.descriptions[-1].last_segment if self.descriptions else 0

    @property
    def released_sequence(self) -> int:
        """The newest log batch in SSTables; 0 if there is none."""
        return self.descriptions[-1].last_sequence if self.descriptions else 0

    @property
    def next_table_id(self) -> int:
        """The lowest id never given to an installed table that is still listed."""
        return 1 + max((d.table_id for d in self.descriptions), default=0)

    def load_bloom(self, description: TableDescription) -> BloomFilter:
        """The filter of a listed table. Raises `CorruptRecordError`, `sqlite3.Error`."""
        rows = self._execute(
            "SELECT bits FROM bloom WHERE table_id = ? ORDER BY chunk", (description.table_id,)
        )
        bits = b"".join(row[0] for row in rows if isinstance(row[0], bytes))
        if len(bits) != description.bloom_bytes or crc32(bits) != description.bloom_checksum:
            raise CorruptRecordError(
                f"The Bloom filter of {description.file_name} does not match its checksum."
            )
        return BloomFilter.from_bytes(bits)

    def stage_bloom(self, table_id: int, bloom: bytes, chunk: int) -> int:
        """Write one slice of a new table's filter; how many are left. Raises `sqlite3.Error`."""
        at = chunk * BLOOM_CHUNK_BYTES
        bits = bloom[at : at + BLOOM_CHUNK_BYTES]
        with self._database.housekeeping(len(bits)):
            self._execute("INSERT OR REPLACE INTO bloom VALUES (?, ?, ?)", (table_id, chunk, bits))
        return _chunks(len(bloom)) - chunk - 1

    def install(self, description: TableDescription, replaced: Sequence[TableDescription]) -> None:
        """Add a table whose filter is staged, in place of others. Raises `sqlite3.Error`."""
        assert replaced or description.first_segment == self.released_segment + 1
        assert all(old in self.descriptions for old in replaced)
        values = _row_of_description(description)
        ids = [(old.table_id,) for old in replaced]
        with self._database.housekeeping(0):
            self._execute(_INSERT, values)
            self._database.connection.executemany("DELETE FROM manifest WHERE table_id = ?", ids)
        kept = [old for old in self.descriptions if old not in replaced]
        self.descriptions = sorted([*kept, description], key=lambda d: d.first_segment)
        for old in replaced:
            chunks = range(_chunks(old.bloom_bytes))
            self._garbage.extend((old.table_id, chunk) for chunk in chunks)

    @property
    def has_garbage(self) -> bool:
        """True while filter slices of removed tables are still to be deleted."""
        return bool(self._garbage)

    def delete_garbage_slice(self) -> None:
        """Delete one filter slice of a removed table. Raises `sqlite3.Error`."""
        with self._database.housekeeping(0):
            self._execute("DELETE FROM bloom WHERE table_id = ? AND chunk = ?", self._garbage[0])
        self._garbage.popleft()


def _chunks(bloom_bytes: int) -> int:
    return -(-bloom_bytes // BLOOM_CHUNK_BYTES)


def _row_of_description(description: TableDescription) -> tuple[int | bytes | None, ...]:
    d = description
    low = d.low or (None, None)
    high = d.high or (None, None)
    return (
        *(d.table_id, d.first_segment, d.last_segment, d.last_sequence),
        *(d.row_count, d.file_bytes, d.file_checksum, *low, *high),
        *(d.bloom_bytes, d.bloom_checksum),
        crc32(_ENCODER.encode(description)),
    )


def _description_of_row(row: tuple[int | bytes | None, ...]) -> TableDescription:
    names = _COLUMNS.split(", ")
    fields = dict(zip((name.strip() for name in names), row, strict=True))
    checksum = fields.pop("checksum")
    for end in ("low", "high"):
        partition, key = fields.pop(f"{end}_partition"), fields.pop(f"{end}_key")
        fields[end] = None if partition is None else (partition, key)  # type: ignore[assignment]
    try:
        description = msgspec.convert(fields, TableDescription)
    except msgspec.ValidationError as error:
        raise CorruptRecordError(f"An entry of the manifest is damaged: {error}.") from error
    if crc32(_ENCODER.encode(description)) != checksum:
        raise CorruptRecordError(
            f"The manifest's entry of {description.file_name} does not match its checksum."
        )
    return description
