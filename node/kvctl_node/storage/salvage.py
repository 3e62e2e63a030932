"""Salvage: taking out of a damaged table what can still be proven, and saying what cannot.

Rows are fetched one by one, by their row number, which is the order in which they were written; so
a page that SQLite cannot read costs the rows on it and no others. A block is believed under the
same conditions as ever: its header's checksum, and its place behind the block before it. Each of
its records has a checksum of its own.

What is missing shows as a gap between the place where the next block should have begun and the one
where it does. `lost_partitions` has every partition that a gap touches: elsewhere nothing is
missing, as surely as in a sound table.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from kvctl_node.storage.block import Block, decode_block, header_checksum, place_of, position_of
from kvctl_node.storage.sstable import COLUMNS, UNREADABLE, TableDescription

FAILURES_MAX = 16_384
"""Rows that cannot be read one after the other: more than one bad page of SQLite's index of them
can cost, and some 50 ms of looking for what is not there."""

_ROW = f"SELECT {COLUMNS} FROM blocks WHERE rowid = ?"


class Salvage:
    """What is left of one damaged table. Used once, on the background thread."""

    def __init__(self, directory: Path, description: TableDescription) -> None:
        self._path = directory / description.file_name
        self._description = description
        self.lost_partitions: set[int] = set()
        """Partitions of which something is missing; complete once `rows` is exhausted."""
        self._gaps: deque[tuple[bytes, bytes]] = deque()
        """Ascending, both ends included, up to where `rows` has come."""

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """(place, payload) of every record that is proven, in ascending order."""
        low, high = self._description.low, self._description.high
        if low is None or high is None:
            return
        expected, last = place_of(*low), place_of(*high)
        for block in self._blocks():
            places = block.header.places
            if places[0] < expected or places[-1] > last:
                continue  # from another place, or another table
            if places[0] > expected:
                self._lose(expected, places[0])
            for at, place in enumerate(places):
                payload = block.payload(at)
                if payload is None:
                    self._lose(place, place)
                else:
                    yield place, payload
            if places[-1] == last:
                return
            # A block that names no follower though it is not the last cannot be the table's own.
            expected = block.header.following or places[-1]
        self._lose(expected, last)

    def _blocks(self) -> Iterator[Block]:
        """Every block whose header is sound, as far as SQLite gets at them.

        There are fewer blocks than records; how many cannot be asked of a damaged file. So the end
        is where very many in a row are not to be had.
        """
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
                connection.execute("PRAGMA mmap_size = 0")
                failures = 0
                for number in range(1, self._description.row_count + 1):
                    block = self._block(connection, number)
                    if block is not None:
                        failures = 0
                        yield block
                    else:
                        failures += 1
                        if failures == FAILURES_MAX:
                            return
        except sqlite3.Error:
            return  # nothing of it can be read: all is one gap

    def _block(self, connection: sqlite3.Connection, number: int) -> Block | None:
        try:
            row = connection.execute(_ROW, (number,)).fetchone()
            if row is None:
                return None
            _, checksum, header, records = row
            if header_checksum(self._description.table_id, header) != checksum:
                return None
            return decode_block(header, records)
        except UNREADABLE:
            return None

    def is_lost(self, place: bytes) -> bool:
        """Whether a place that `rows` has passed lies in a gap. Ask in ascending order."""
        gaps = self._gaps
        while gaps and gaps[0][1] < place:
            gaps.popleft()
        return bool(gaps) and gaps[0][0] <= place

    def _lose(self, start: bytes, stop: bytes) -> None:
        self._gaps.append((start, stop))
        first, last = position_of(start).partition, position_of(stop).partition
        self.lost_partitions.update(range(first, last + 1))
