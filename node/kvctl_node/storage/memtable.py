"""The memtable: the newest writes, in memory, in front of the SSTables.

Every write goes to the commit log and in here. When the memtable is full it is *frozen*, a new one
takes its place, and a background thread writes the frozen one into an SSTable. Until that table is
in the manifest the frozen memtable stays readable. The loop's thread never changes a frozen
memtable, so the background thread reads it without a lock.

    key -> Record, or None: a removal marker, which hides what older tables hold

Entries are found by key alone, since a key has one partition; so new keys go in, and many are
looked for, in one step each. Order is made when somebody asks for it: a scan, and the flush, each
put the keys into their partitions, and sort one partition at a time: sorting 60,000 keys at once
would stall the loop for 50 ms.

Invariant: a memtable holds exactly the net effect of one segment of the commit log.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

from kvctl_node.ports import Position, Record
from kvctl_node.ring.placed_keys import PlacedKeys
from kvctl_node.storage.block import place_of, places_of
from kvctl_node.storage.record_codec import ABSENT, encode_payload

ENTRY_OVERHEAD_BYTES = 320
"""What CPython needs per entry beside the bytes of key and content: a Record, the headers of four
bytes objects, the digest, and the entry's share of a dict and a list. The limit is on memory."""
STEP_KEYS = 2048
"""So many keys at once are put into their partitions by a flush: about half a millisecond."""

Batch = tuple[list[bytes], list[bytes]]
"""Places in ascending order, and the payload of each."""


class Memtable:
    """The writes of one segment of the commit log."""

    __slots__ = (
        "_indexed",
        "_keys",
        "_of_partition",
        "_partitions",
        "entries",
        "last_sequence",
        "memory_bytes",
        "segment",
    )

    def __init__(self, segment: int) -> None:
        self.segment = segment
        self.last_sequence = 0
        """The last log batch it holds; set when it is frozen."""
        self.entries: dict[bytes, Record | None] = {}
        self._keys: list[bytes] = []
        """All keys, in the order in which they came, and..."""
        self._partitions = array("I")
        """...the partition of each."""
        self._of_partition: defaultdict[int, list[bytes]] = defaultdict(list)
        """Partition → its keys, of the first `_indexed` keys; for scans, on the loop's thread."""
        self._indexed = 0
        self.memory_bytes = 0
        """Estimate of the memory held."""

    @property
    def key_count(self) -> int:
        """How many keys it says something about."""
        return len(self._keys)

    def put(self, partition: int, key: bytes, record: Record | None) -> None:
        """Set the record of a key; None leaves a removal marker."""
        size = 0 if record is None else len(record.content) + len(record.recent)
        replaced = self.entries.get(key, ABSENT)
        if replaced is ABSENT:
            self._keys.append(key)
            self._partitions.append(partition)
            size += ENTRY_OVERHEAD_BYTES + len(key)
        elif replaced is not None:
            size -= len(replaced.content) + len(replaced.recent)
        self.memory_bytes += size
        self.entries[key] = record

    def put_new(self, placed: PlacedKeys, records: Sequence[Record]) -> None:
        """Set the records of different keys, of which this memtable has none. HOT PATH."""
        keys = placed.keys
        self._keys.extend(keys)
        self._partitions.extend(placed.partitions)
        self.entries.update(zip(keys, records, strict=True))
        size = ENTRY_OVERHEAD_BYTES * len(keys) + sum(map(len, keys))
        size += sum([len(record.content) + len(record.recent) for record in records])
        self.memory_bytes += size

    def may_hold(self, keys: Sequence[bytes]) -> set[int]:
        """Which of these keys, by index, this memtable knows something of. HOT PATH."""
        known = self.entries
        if known.keys().isdisjoint(keys):
            return set()
        return {at for at, key in enumerate(keys) if key in known}

    def scan(self, start: Position, stop_partition: int) -> Iterator[tuple[bytes, Record | None]]:
        """Places and records from `start` on, up to but without `stop_partition`, in order.

        On the loop's thread. What came since the last scan is put into its partitions first: a
        fifth of a microsecond for each key, so 6 ms for the first scan of a full memtable.
        """
        self._put_into_partitions(self._of_partition, self._indexed, self.key_count)
        self._indexed = self.key_count
        wanted = (p for p in self._of_partition if start.partition <= p < stop_partition)
        for partition in sorted(wanted):
            keys = sorted(self._of_partition[partition])
            first = bisect_left(keys, start.key) if partition == start.partition else 0
            for key in keys[first:]:
                yield place_of(partition, key), self.entries[key]

    def batches(self, rows_max: int, bytes_max: int) -> Iterator[Batch]:
        """Everything in order, encoded, in batches an SSTable writer can take without a stall.

        On any thread, when frozen. The first batches are empty: each stands for a step of work.
        """
        of_partition: defaultdict[int, list[bytes]] = defaultdict(list)
        for first in range(0, self.key_count, STEP_KEYS):
            self._put_into_partitions(of_partition, first, first + STEP_KEYS)
            yield [], []
        rows = max(1, min(rows_max, bytes_max * self.key_count // max(self.memory_bytes, 1)))
        record_of = self.entries.__getitem__
        places: list[bytes] = []
        payloads: list[bytes] = []
        for partition in sorted(of_partition):
            keys = sorted(of_partition.pop(partition))
            for at in range(0, len(keys), rows):
                part = keys[at : at + rows]
                places += places_of(partition, part)
                payloads += map(encode_payload, map(record_of, part))
                if len(places) >= rows:
                    yield places, payloads
                    places, payloads = [], []
        if places:
            yield places, payloads

    def _put_into_partitions(
        self, of_partition: defaultdict[int, list[bytes]], first: int, stop: int
    ) -> None:
        """Add the keys first <= k < stop, counted as they came, each to its partition."""
        part = slice(first, stop)
        for partition, key in zip(self._partitions[part], self._keys[part], strict=True):
            of_partition[partition].append(key)
