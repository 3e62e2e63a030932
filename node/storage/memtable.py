"""The memtable: the newest writes, in memory, in front of the SSTables.

Every write goes to the commit log and in here. When the memtable is full it is *frozen*, a new one
takes its place, and a background thread writes the frozen one into an SSTable. Until that table is
in the manifest the frozen memtable stays readable. The loop's thread never changes a frozen
memtable, so the background thread reads it without a lock.

    partition -> key -> Record, or None: a removal marker, which hides what older tables hold

One dict per partition, because then a scan, and the flush, sort one partition at a time: sorting
60,000 keys at once would stall the loop for 50 ms.

Invariant: a memtable holds exactly the net effect of one segment of the commit log.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

from node.ports import Position, Record
from node.ring.placed_keys import PlacedKeys
from node.storage.block import place_of, places_of
from node.storage.record_codec import ABSENT, Absent, encode_payload

ENTRY_OVERHEAD_BYTES = 320
"""What CPython needs per entry beside the bytes of key and content: a Record, the headers of four
bytes objects, the digest, and the entry's share of a dict and of a set. The limit is on memory."""

Batch = tuple[list[bytes], list[bytes]]
"""Places in ascending order, and the payload of each."""


class Memtable:
    """The writes of one segment of the commit log."""

    __slots__ = ("_keys", "last_sequence", "memory_bytes", "partitions", "segment")

    def __init__(self, segment: int) -> None:
        self.segment = segment
        self.last_sequence = 0
        """The last log batch it holds; set when it is frozen."""
        self.partitions: defaultdict[int, dict[bytes, Record | None]] = defaultdict(dict)
        self._keys: set[bytes] = set()
        """All keys: whether some of many are here is then one question. A key has one partition, so
        they are as many as there are entries."""
        self.memory_bytes = 0
        """Estimate of the memory held."""

    @property
    def key_count(self) -> int:
        """How many keys it says something about."""
        return len(self._keys)

    def put(self, partition: int, key: bytes, record: Record | None) -> None:
        """Set the record of a key; None leaves a removal marker."""
        entries = self.partitions[partition]
        size = 0 if record is None else len(record.content) + len(record.recent)
        replaced = entries.get(key, ABSENT)
        if replaced is ABSENT:
            self._keys.add(key)
            size += ENTRY_OVERHEAD_BYTES + len(key)
        elif replaced is not None:
            size -= len(replaced.content) + len(replaced.recent)
        self.memory_bytes += size
        entries[key] = record

    def put_new(self, placed: PlacedKeys, records: Sequence[Record]) -> None:
        """Set the records of different keys, of which this memtable has none. HOT PATH."""
        keys, _, partitions = placed
        by_partition = self.partitions
        size = ENTRY_OVERHEAD_BYTES * len(keys)
        for partition, key, record in zip(partitions, keys, records, strict=True):
            by_partition[partition][key] = record
            size += len(key) + len(record.content) + len(record.recent)
        self._keys.update(keys)
        self.memory_bytes += size

    def may_hold(self, keys: Sequence[bytes]) -> set[int]:
        """Which of these keys, by index, this memtable knows something of. HOT PATH."""
        known = self._keys
        if known.isdisjoint(keys):
            return set()
        return {at for at, key in enumerate(keys) if key in known}

    def get(self, partition: int, key: bytes) -> Record | Absent | None:
        """The record, None if the key was dropped, `ABSENT` if this memtable knows nothing."""
        entries = self.partitions.get(partition)
        return ABSENT if entries is None else entries.get(key, ABSENT)

    def scan(self, start: Position, stop_partition: int) -> Iterator[tuple[bytes, Record | None]]:
        """Places and records from `start` on, up to but without `stop_partition`, in order."""
        wanted = (p for p in self.partitions if start.partition <= p < stop_partition)
        for partition in sorted(wanted):
            entries = self.partitions[partition]
            keys = sorted(entries)
            first = bisect_left(keys, start.key) if partition == start.partition else 0
            for key in keys[first:]:
                yield place_of(partition, key), entries[key]

    def batches(self, rows_max: int, bytes_max: int) -> Iterator[Batch]:
        """Everything in order, encoded, in batches an SSTable writer can take without a stall."""
        rows = max(1, min(rows_max, bytes_max * self.key_count // max(self.memory_bytes, 1)))
        places: list[bytes] = []
        payloads: list[bytes] = []
        for partition in sorted(self.partitions):
            entries = self.partitions[partition]
            keys = sorted(entries)
            for at in range(0, len(keys), rows):
                part = keys[at : at + rows]
                places += places_of(partition, part)
                payloads += map(encode_payload, map(entries.__getitem__, part))
                if len(places) >= rows:
                    yield places, payloads
                    places, payloads = [], []
        if places:
            yield places, payloads
