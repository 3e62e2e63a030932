"""Scanning: one page of the merge of all sources, newest version first.

Every source (memtables, SSTables) yields its entries in (partition, key) order. They are merged;
of several entries with one key the newest source's counts, and removal markers are left out.

A page is bounded in entries and bytes, and also in entries *looked at*, since a region of dropped
or overwritten keys may hold thousands of them for each that is returned. So a page can be short,
even empty, without being the last.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from kvctl_node.ports import Position, Record, ScanPage, StoredEntry
from kvctl_node.storage.block import place_of, position_of
from kvctl_node.storage.memtable import Memtable
from kvctl_node.storage.record_codec import decode_payload
from kvctl_node.storage.sstable import SSTable

EXAMINED_MIN = 1024

ScanItem = tuple[bytes, int, Record | bytes | None]
"""(place, rank of the source, value): rank 0 is newest; bytes are a payload to decode.
Ranks differ between sources, so that comparing two items never reaches their values."""


def scan_page(
    memtables: Sequence[Memtable],
    tables: Sequence[SSTable],
    start: Position,
    stop_partition: int,
    *,
    limit: int,
    bytes_max: int,
) -> ScanPage:
    """A page as `StorageEngine.scan` defines it; sources newest first. `CorruptRecordError`."""
    assert limit >= 1
    stop = place_of(stop_partition, b"")
    sources: list[Iterator[ScanItem]] = [
        _memtable_items(memtable, rank, start, stop_partition)
        for rank, memtable in enumerate(memtables)
    ]
    sources += [
        _table_items(table, len(memtables) + rank, place_of(*start), stop)
        for rank, table in enumerate(tables)
    ]
    return _collect(heapq.merge(*sources), limit, bytes_max)


def _collect(items: Iterable[ScanItem], limit: int, bytes_max: int) -> ScanPage:
    entries: list[StoredEntry] = []
    content_bytes = 0
    examined_max = max(EXAMINED_MIN, 4 * limit)
    before: bytes | None = None
    for examined, (place, _, value) in enumerate(items):
        if place == before:
            continue
        if len(entries) >= limit or examined >= examined_max:
            return ScanPage(entries, position_of(place))
        before = place
        record = decode_payload(value) if isinstance(value, bytes) else value
        if record is None:
            continue
        content_bytes += len(record.content)
        if entries and content_bytes > bytes_max:
            return ScanPage(entries, position_of(place))
        entries.append(StoredEntry(*position_of(place), record))
    return ScanPage(entries, None)


def _memtable_items(
    memtable: Memtable, rank: int, start: Position, stop_partition: int
) -> Iterator[ScanItem]:
    for place, record in memtable.scan(start, stop_partition):
        yield place, rank, record


def _table_items(table: SSTable, rank: int, start: bytes, stop: bytes) -> Iterator[ScanItem]:
    for places, payloads in table.batches(start):
        for place, payload in zip(places, payloads, strict=True):
            if place >= stop:
                return
            yield place, rank, payload
