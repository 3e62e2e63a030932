"""A storage engine in memory with the durability semantics of the real one.

The simulation gives every virtual node one of these as its disk. What was committed survives
`crash()`; what was not is forgotten, as if the turn had never been. Faults are injected: `full`
refuses writes, `fail_next_commit` makes the next commit raise with nothing applied, and `corrupt`
damages a record until it is written again. An `image()` of the committed state can be restored
later, as from a backup. A `witness` sees every change, for a simulation to judge.
`tests/contracts` holds it to the same tests as SQLite.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kvctl_node.errors import CorruptRecordError, StorageError, StorageFullError
from kvctl_node.ports import Hint, HintQueue, Position, Record, ScanPage, StorageStats, StoredEntry
from kvctl_node.ring.placed_keys import PlacedKeys


@dataclass(frozen=True)
class DiskImage:
    """All that a disk has committed, at some moment. The default is an empty disk."""

    records: dict[Position, Record] = field(default_factory=dict)
    metadata: dict[str, bytes] = field(default_factory=dict)
    hints: dict[tuple[str, bytes], Hint] = field(default_factory=dict)
    damaged: frozenset[Position] = frozenset()


class DiskWitness(Protocol):
    """Sees what one disk does."""

    def on_put(self, place: Position, old: Record | None, new: Record | None) -> None:
        """The turn replaces a copy (None: there is none)."""

    def on_commit(
        self, records: dict[Position, Record | None], hints: dict[tuple[str, bytes], Hint | None]
    ) -> None:
        """The turn's changes are durable; called just before they replace the committed ones."""

    def on_crash(self) -> None:
        """The turn's changes are gone."""


class MemoryHintLog:
    """Implements `HintLog` in memory; the engine commits it with the turn's records."""

    def __init__(self) -> None:
        self._committed: dict[tuple[str, bytes], Hint] = {}
        self._pending: dict[tuple[str, bytes], Hint | None] = {}

    def put(self, hint: Hint) -> None:
        self._pending[hint.target, hint.key] = hint

    def get(self, target: str, key: bytes) -> Hint | None:
        return self._now().get((target, key))

    def page(self, target: str, after: bytes, limit: int) -> Sequence[Hint]:
        places = sorted(one for one in self._now() if one[0] == target and one[1] > after)
        return [self._now()[place] for place in places[:limit]]

    def delete(self, target: str, key: bytes) -> None:
        self._pending[target, key] = None

    def queues(self) -> Sequence[HintQueue]:
        hints = self._now().values()
        return [
            HintQueue(
                target,
                sum(hint.target == target for hint in hints),
                sum(len(hint.content) for hint in hints if hint.target == target),
                min(hint.created_ms for hint in hints if hint.target == target),
            )
            for target in sorted({hint.target for hint in hints})
        ]

    def holds(self, key: bytes) -> bool:
        return any(place[1] == key for place in self._now())

    def committed(self) -> dict[tuple[str, bytes], Hint]:
        """The durable hints by (target, key)."""
        return self._committed

    def pending(self) -> dict[tuple[str, bytes], Hint | None]:
        """What the turn changes; None deletes."""
        return self._pending

    def commit(self) -> None:
        self._committed = self._now()
        self._pending = {}

    def restore(self, hints: dict[tuple[str, bytes], Hint]) -> None:
        """Replace the committed state."""
        self._committed, self._pending = dict(hints), {}

    def forget_pending(self) -> None:
        self._pending.clear()

    def _now(self) -> dict[tuple[str, bytes], Hint]:
        if not self._pending:
            return self._committed
        merged = {**self._committed, **self._pending}
        return {place: hint for place, hint in merged.items() if hint is not None}


class MemoryStorageEngine:
    """Implements `StorageEngine`. After a crash the same object is used again, as the disk is."""

    def __init__(self) -> None:
        self.hints = MemoryHintLog()
        self._committed: dict[Position, Record] = {}
        self._committed_metadata: dict[str, bytes] = {}
        self._pending: dict[Position, Record | None] = {}
        self._pending_metadata: dict[str, bytes] = {}
        self._order: list[Position] = []
        """Every place ever written, sorted; places without a record are skipped by `scan`."""
        self._damaged: set[Position] = set()
        self._corrupt_reads = 0
        self._failed = False
        self.full = False
        self.fail_next_commit = False
        self.witness: DiskWitness | None = None

    def get(self, partition: int, key: bytes) -> Record | None:
        place = Position(partition, key)
        if place in self._pending:
            return self._pending[place]
        if place in self._damaged:
            self._corrupt_reads += 1
            raise CorruptRecordError(f"The record of {key!r} is damaged.")
        return self._committed.get(place)

    def may_hold(self, placed: PlacedKeys) -> Collection[int]:
        known = self._committed.keys() | self._damaged | self._pending.keys()
        places = enumerate(zip(placed.partitions, placed.keys, strict=True))
        return [at for at, place in places if place in known]

    def put(self, partition: int, key: bytes, record: Record) -> None:
        place = Position(partition, key)
        self._tell_of(place, record)
        self._pending[place] = record
        self._index(place)

    def put_new(self, placed: PlacedKeys, records: Sequence[Record]) -> None:
        assert len(set(placed.keys)) == len(placed.keys)
        assert not self.may_hold(placed)
        for entry in zip(placed.partitions, placed.keys, records, strict=True):
            self.put(*entry)

    def drop(self, partition: int, key: bytes) -> None:
        place = Position(partition, key)
        self._tell_of(place, None)
        self._pending[place] = None

    def scan(self, start: Position, stop_partition: int, *, limit: int, bytes_max: int) -> ScanPage:
        entries: list[StoredEntry] = []
        total_bytes = 0
        for index in range(bisect_left(self._order, start), len(self._order)):
            place = self._order[index]
            if place.partition >= stop_partition:
                break
            record = self.get(*place)
            if record is None:
                continue
            total_bytes += len(record.content)
            if len(entries) == limit or (entries and total_bytes > bytes_max):
                return ScanPage(entries, place)
            entries.append(StoredEntry(*place, record))
        return ScanPage(entries, None)

    def metadata(self, name: str) -> bytes | None:
        return self._pending_metadata.get(name, self._committed_metadata.get(name))

    def set_metadata(self, name: str, value: bytes) -> None:
        self._pending_metadata[name] = value

    def forget_quarantined(self, partitions: Collection[int]) -> None:
        """Damaged records are missing from the turn's commit on."""
        if all(place.partition in partitions for place in self._damaged):
            for place in self._damaged:
                self._pending.setdefault(place, None)

    def accepts_writes(self) -> bool:
        return not self.full

    def commit(self) -> None:
        """Raises `StorageFullError` when asked to, and from then on until `crash()`."""
        if not self._pending and not self._pending_metadata and not self.hints.pending():
            return
        if self._failed:
            raise StorageError("An earlier commit failed; this engine cannot store any more.")
        if self.fail_next_commit:
            self.fail_next_commit = False
            self._failed = True
            raise StorageFullError("The disk is full while committing a turn.")
        if self.witness is not None:
            self.witness.on_commit(self._pending, self.hints.pending())
        for place, record in self._pending.items():
            self._damaged.discard(place)
            if record is None:
                self._committed.pop(place, None)
            else:
                self._committed[place] = record
        self._committed_metadata.update(self._pending_metadata)
        self.hints.commit()
        self._pending.clear()
        self._pending_metadata.clear()

    def maintain(self) -> bool:
        return False

    def stats(self) -> StorageStats:
        return StorageStats(
            keys_estimate=len(self._committed) + len(self._pending),
            memtable_keys=len(self._committed),
            corrupt_sstables=tuple(
                f"record {at}:{key.hex()}"
                for at, key in sorted(self._damaged - self._pending.keys())
            ),
            corrupt_records=self._corrupt_reads,
        )

    def close(self) -> None:
        self.crash()

    def crash(self) -> None:
        """What was not committed never happened."""
        self._pending.clear()
        self._pending_metadata.clear()
        self.hints.forget_pending()
        self._failed = self.fail_next_commit = False
        if self.witness is not None:
            self.witness.on_crash()

    def committed(self, partition: int, key: bytes) -> Record | None:
        """What the disk holds of a key, readable or not."""
        return self._committed.get(Position(partition, key))

    def committed_places(self) -> list[Position]:
        """Where the disk holds something, in order."""
        return sorted(self._committed)

    @property
    def stores(self) -> bool:
        """Whether the turn wants a record or a hint stored or dropped."""
        return bool(self._pending or self.hints.pending())

    def image(self) -> DiskImage:
        """The committed state as it is now."""
        return DiskImage(
            dict(self._committed),
            dict(self._committed_metadata),
            dict(self.hints.committed()),
            frozenset(self._damaged),
        )

    def restore(self, image: DiskImage) -> None:
        """Replace everything by an image: of a backup, or of an empty disk."""
        self.crash()
        self._committed = dict(image.records)
        self._committed_metadata = dict(image.metadata)
        self._damaged = set(image.damaged)
        self._order = sorted(image.records)
        self.hints.restore(image.hints)

    def is_damaged(self, place: Position) -> bool:
        """Whether reading the committed record raises."""
        return place in self._damaged

    def corrupt(self, partition: int, key: bytes) -> None:
        """Damage a committed record: reading it raises until it is written again."""
        self._damaged.add(Position(partition, key))

    def _tell_of(self, place: Position, new: Record | None) -> None:
        if self.witness is not None:
            readable = place in self._pending or place not in self._damaged
            self.witness.on_put(place, self.get(*place) if readable else None, new)

    def _index(self, place: Position) -> None:
        at = bisect_left(self._order, place)
        if at == len(self._order) or self._order[at] != place:
            self._order.insert(at, place)
