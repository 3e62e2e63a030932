"""The ports of the protocol core: what it needs from the world, as narrow interfaces.

The core (everything in `node/` outside `runtime/` and `storage/`) is a pure state machine. It is
handed the time as an `Instant` with every input, stores through a `StorageEngine`, and leaves what
it wants sent in an `Outbox`. Each port has a real implementation and one for tests; the contract
suites in `tests/contracts` run the same tests on all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import msgspec

from kvctl_node.ring.placed_keys import PlacedKeys


class Instant(msgspec.Struct, frozen=True, gc=False):
    """One reading of both clocks, taken once per turn of the loop."""

    monotonic_s: float
    """Seconds on a clock that never jumps: timers and timeouts."""
    wall_ms: int
    """Milliseconds since the Unix epoch: stamps, and deadlines that travel between processes."""


class Clock(Protocol):
    """Where instants come from: the operating system, or a simulation."""

    def now(self) -> Instant: ...


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A replica's copy of one key, as the storage engine keeps it.

    `content` is the canonical encoding of the object (causal context and siblings), the same bytes
    at every replica that holds the same versions; `digest` is its 16-byte hash. `recent` is the
    encoded list of recently applied request ids. `my_actor` is local: the actor under which this
    very copy mints dots, "" until it coordinates a put. It is never replicated, hashed or compared.
    """

    content: bytes
    digest: bytes
    recent: bytes = b""
    my_actor: str = ""


class Position(NamedTuple):
    """A place in the (partition, key) order in which every replica scans."""

    partition: int
    key: bytes


class StoredEntry(NamedTuple):
    """One key of a scan page."""

    partition: int
    key: bytes
    record: Record


class ScanPage(NamedTuple):
    """A page of a scan: `entries` in order; `next` is where to go on, None at the end.

    Everything the engine holds between the start asked for and `next` is in `entries`.
    """

    entries: Sequence[StoredEntry]
    next: Position | None


class StorageStats(msgspec.Struct, frozen=True, kw_only=True):
    """Figures about one engine, for status, metrics and the dashboard. Bytes, counts."""

    keys_estimate: int = 0
    memtable_keys: int = 0
    memtable_bytes: int = 0
    frozen_memtables: int = 0
    log_bytes: int = 0
    sstables: int = 0
    sstable_keys: int = 0
    sstable_bytes: int = 0
    bloom_negatives: int = 0
    """SSTables a read did not have to open because their Bloom filter said no."""
    bloom_hits: int = 0
    """SSTables a get opened and found the key in."""
    bloom_false_positives: int = 0
    """SSTables a get opened in vain."""
    flushes: int = 0
    compactions: int = 0
    compaction_due: bool = False
    """SSTables are being merged, or wait for a quiet time to be."""
    corrupt_sstables: Sequence[str] = ()
    """Names of quarantined SSTables; reads that would need them raise `CorruptRecordError`."""
    corrupt_records: int = 0
    background_error: str = ""
    """Why flush or compaction is failing now ("" when it is not), for example a full disk."""


class Hint(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An object kept for a node that could not be reached: it belongs on `target`'s disk.

    `counted` hints stood in for an acknowledgement, so they are kept until delivered; the others
    only save repair some work and may expire. `digest` is the 16-byte hash of `content`.
    """

    target: str
    partition: int
    key: bytes
    content: bytes
    digest: bytes
    recent: bytes
    created_ms: int
    """Wall-clock time of the oldest write merged into this hint."""
    counted: bool


class HintQueue(NamedTuple):
    """What is kept for one target."""

    target: str
    hints: int
    bytes: int
    """Size of the objects."""
    oldest_ms: int
    """Wall-clock time of the oldest hint."""


class HintLog(Protocol):
    """Durable hints by (target, key), written in the same transaction as the turn's records."""

    def put(self, hint: Hint) -> None:
        """Store or replace the hint of (target, key)."""
        ...

    def get(self, target: str, key: bytes) -> Hint | None:
        """The hint of (target, key). Raises `CorruptRecordError`."""
        ...

    def page(self, target: str, after: bytes, limit: int) -> Sequence[Hint]:
        """Up to `limit` hints of a target with keys after `after`, in key order.

        A damaged hint is dropped, counted and left out.
        """
        ...

    def delete(self, target: str, key: bytes) -> None:
        """Forget the hint of (target, key), if there is one."""
        ...

    def queues(self) -> Sequence[HintQueue]:
        """One entry per target that has hints, by target."""
        ...

    def holds(self, key: bytes) -> bool:
        """Whether any target has a hint of this key."""
        ...


class StorageEngine(Protocol):
    """Durable map (partition, key) → Record. One thread calls it; nothing here blocks for long.

    A key always comes with the same partition, for its hash decides it; the two together give the
    order of a scan.

    A turn's writes (`put`, `drop`, `set_metadata`, and those to `hints`) are visible at once and
    durable when `commit` returns: all of them or, after a crash, none.
    """

    @property
    def hints(self) -> HintLog:
        """Hints kept for other nodes, in the same transactions as the records."""
        ...

    def get(self, partition: int, key: bytes) -> Record | None:
        """The newest record, or None. Raises `CorruptRecordError` rather than guess."""
        ...

    def may_hold(self, placed: PlacedKeys) -> Collection[int]:
        """Which of these keys, by index, may have a record; all others certainly have none."""
        ...

    def put(self, partition: int, key: bytes, record: Record) -> None:
        """Replace the record of a key."""
        ...

    def put_new(self, placed: PlacedKeys, records: Sequence[Record]) -> None:
        """Set the records of different keys, all of which `may_hold` has just excluded."""
        ...

    def drop(self, partition: int, key: bytes) -> None:
        """Forget this copy (reaped or moved away). The caller raised the actor epoch before."""
        ...

    def scan(self, start: Position, stop_partition: int, *, limit: int, bytes_max: int) -> ScanPage:
        """Records with start <= (partition, key) and partition < stop_partition, in order.

        At most `limit` entries and, after the first, at most `bytes_max` bytes of content.
        Raises `CorruptRecordError`.
        """
        ...

    def metadata(self, name: str) -> bytes | None:
        """A small durable value of this node ("storage_uuid", "generation", ...)."""
        ...

    def set_metadata(self, name: str, value: bytes) -> None:
        """Set a metadata value, as part of this turn's transaction."""
        ...

    def forget_quarantined(self, partitions: Collection[int]) -> None:
        """Give up what is damaged: its keys are then missing, not unreadable, and scans go on.

        The caller raised the actor epoch and marked these partitions as being rebuilt, in this turn
        or before. What can be read stays. Takes effect after the turn's commit, and not at all if
        anything is damaged outside them; `stats().corrupt_sstables` is empty when it is done.
        """
        ...

    def accepts_writes(self) -> bool:
        """False while the disk is full or flushing lags so far behind that memory is at its limit.

        The coordinator and the replica then refuse new writes (`overloaded`); reads go on.
        """
        ...

    def commit(self) -> None:
        """Make the turn's writes durable. Raises `StorageError`; the process must then end."""
        ...

    def maintain(self) -> bool:
        """Do a bounded slice of background housekeeping; True if more is waiting right now."""
        ...

    def stats(self) -> StorageStats: ...

    def close(self) -> None:
        """Finish or abandon background work and release the files; committed data stays."""
        ...
