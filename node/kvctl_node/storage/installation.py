"""A built table on its way into the manifest.

Its Bloom filter is staged a slice at a time; then one small transaction swaps the manifest, and
only then do the sources of the table go (`housekeeping` drives this, on the loop's thread).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

from kvctl_node.storage.crash_points import CrashPoint
from kvctl_node.storage.memtable import Memtable
from kvctl_node.storage.sstable import TableDescription
from kvctl_node.storage.sstable_writer import BuiltTable


class Installation:
    """Everything known about the new table, and what to do once it counts."""

    def __init__(
        self,
        built: BuiltTable,
        source: Memtable | Sequence[TableDescription],
        before: CrashPoint,
        installed: Callable[[], None],
    ) -> None:
        """`source`: the memtable it was flushed from, or the tables it replaces, oldest first."""
        self.bloom = built.bloom
        self.bloom_data = built.bloom.to_bytes()
        self.chunks_staged = 0
        self.staged = False
        """True when the whole filter is in the database."""
        self.source = source
        self.replaced: Sequence[TableDescription]
        self.before = before
        """The crash point just before the manifest is swapped."""
        self.installed = installed
        if isinstance(source, Memtable):
            self.replaced = ()
            first = last = source.segment
            sequence = source.last_sequence
        else:
            self.replaced = source
            first, last = source[0].first_segment, source[-1].last_segment
            sequence = source[-1].last_sequence
        self.description = TableDescription(
            table_id=built.table_id,
            first_segment=first,
            last_segment=last,
            last_sequence=sequence,
            row_count=built.row_count,
            file_bytes=built.file_bytes,
            file_checksum=built.file_checksum,
            low=built.low,
            high=built.high,
            bloom_bytes=len(self.bloom_data),
            bloom_checksum=crc32(self.bloom_data),
        )
