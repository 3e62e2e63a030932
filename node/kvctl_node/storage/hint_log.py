"""The durable queues of hints: one row per (target, key), in the node's database.

A hint takes the path of a record: its turn's batch of the commit log makes it durable, together
with the object (a stand-in acknowledges a write only when both are); a `hint_memtable` shows it to
reads; and when the segment of the log is full, its changes go to the table `hints`, in slices, in
key order, before the segment is released. Then again after a crash in between: they are the same.

Rows carry a checksum; a damaged hint is dropped and counted, since the object it holds is also a
copy of this node and of the other replicas, which anti-entropy brings home.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from zlib import crc32

import msgspec

from kvctl_node.errors import CorruptRecordError
from kvctl_node.ports import Hint, HintQueue
from kvctl_node.storage.database import Database
from kvctl_node.storage.hint_memtable import HintMemtable
from kvctl_node.storage.record_codec import ABSENT, HintChange

STORE_SLICE_ROWS = 128
_QUEUES_PAGE = 1000
_GET = "SELECT checksum, hint FROM hints WHERE target = ? AND key = ?"
_AFTER = "SELECT key, checksum, hint FROM hints WHERE target = ? AND key > ? ORDER BY key"
_PUT = "INSERT OR REPLACE INTO hints (target, key, checksum, hint) VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM hints WHERE target = ? AND key = ?"
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Hint)

PageItem = tuple[bytes, int, Hint | tuple[int, bytes] | None]
"""(key, rank of the source, value): rank 0 is newest; a table row comes as (checksum, data)."""


class SqliteHintLog:
    """The `HintLog` of the SQLite engine."""

    def __init__(self, database: Database, segment: int) -> None:
        """`segment` of the commit log is the first to be replayed. Raises `sqlite3.Error`."""
        self._database = database
        self._execute = database.execute
        self.pending: list[HintChange] = []
        """Changes of this turn, in order; the commit puts them into the log."""
        self.damaged = 0
        """Hints dropped because they did not match their checksum."""
        self.active = HintMemtable(segment)
        self._frozen: list[HintMemtable] = []
        """Oldest first; waiting to be written to the table."""
        self._storing: Iterator[HintChange] | None = None
        """What is left to store of the oldest frozen one."""
        self._targets = {row[0] for row in self._execute("SELECT DISTINCT target FROM hints")}

    # ------------------------------------------------------------ port

    def put(self, hint: Hint) -> None:
        """Store or replace the hint of (target, key)."""
        self.apply((hint.target, hint.key, hint))
        self.pending.append((hint.target, hint.key, hint))

    def delete(self, target: str, key: bytes) -> None:
        """Forget the hint of (target, key), if there is one."""
        self.apply((target, key, None))
        self.pending.append((target, key, None))

    def get(self, target: str, key: bytes) -> Hint | None:
        """The hint of (target, key). Raises `CorruptRecordError`."""
        for memtable in self._memtables():
            hint = memtable.get(target, key)
            if hint is not ABSENT:
                return hint
        row = self._execute(_GET, (target, key)).fetchone()
        return None if row is None else _decode(target, key, *row)

    def page(self, target: str, after: bytes, limit: int) -> Sequence[Hint]:
        """Up to `limit` hints with keys after `after`, in key order; damaged ones are dropped."""
        damaged: list[bytes] = []
        found = list(islice(self._hints_after(target, after, damaged), limit))
        for key in damaged:
            self.damaged += 1
            self.delete(target, key)
        return found

    def queues(self) -> Sequence[HintQueue]:
        """Figures per target, this turn's changes included. Reads every hint: for the start."""
        return [queue for target in sorted(self._targets) if (queue := self._queue(target)).hints]

    def holds(self, key: bytes) -> bool:
        """Whether any target has a hint of this key; a damaged one counts."""
        for target in self._targets:
            try:
                if self.get(target, key) is not None:
                    return True
            except CorruptRecordError:
                return True
        return False

    # ------------------------------------------------------------ for the engine

    def apply(self, change: HintChange) -> None:
        """Show a change to reads; it is in the log, or will be with this turn."""
        self._targets.add(change[0])
        self.active.put(*change)

    def freeze(self) -> None:
        """The segment of the log is full: what it changed is to be stored. Not within a turn."""
        if self.active.count:
            self._frozen.append(self.active)
        self.active = HintMemtable(self.active.segment + 1)

    def must_store(self, segment: int) -> bool:
        """Whether changes of the log up to this segment are not in the table yet."""
        return bool(self._frozen) and self._frozen[0].segment <= segment

    def store_slice(self) -> None:
        """Write a bounded part of the oldest frozen changes. Raises `sqlite3.Error`."""
        if self._storing is None:
            self._storing = _changes(self._frozen[0])
        part = list(islice(self._storing, STORE_SLICE_ROWS))
        try:
            self._store(part)
        except sqlite3.Error:
            self._storing = None  # from the start: to store a change twice does no harm
            raise
        if len(part) < STORE_SLICE_ROWS:
            self._storing = None
            del self._frozen[0]

    def _store(self, changes: Sequence[HintChange]) -> None:
        rows = []
        for target, key, hint in changes:
            if hint is not None:
                data = _encode(hint)
                rows.append((target, key, _checksum(target, key, data), data))
        gone = [(target, key) for target, key, hint in changes if hint is None]
        with self._database.housekeeping(sum(len(key) + len(data) for _, key, _, data in rows)):
            self._database.connection.executemany(_DELETE, gone)
            self._database.connection.executemany(_PUT, rows)

    # ------------------------------------------------------------ reading

    def _memtables(self) -> list[HintMemtable]:
        """Newest first."""
        return [self.active, *reversed(self._frozen)] if self._frozen else [self.active]

    def _hints_after(self, target: str, after: bytes, damaged: list[bytes]) -> Iterator[Hint]:
        """All hints, in key order; keys of damaged ones go to `damaged`."""
        memtables = self._memtables()
        sources: list[Iterator[PageItem]] = [
            _memtable_items(memtable, rank, target, after)
            for rank, memtable in enumerate(memtables)
        ]
        sources.append(self._row_items(len(memtables), target, after))
        before: bytes | None = None
        for key, _, value in heapq.merge(*sources):
            if key == before:
                continue
            before = key
            if isinstance(value, Hint):
                yield value
            elif value is not None:
                try:
                    yield _decode(target, key, *value)
                except CorruptRecordError:
                    damaged.append(key)

    def _row_items(self, rank: int, target: str, after: bytes) -> Iterator[PageItem]:
        for key, checksum, data in self._execute(_AFTER, (target, after)):
            yield key, rank, (checksum, data)

    def _queue(self, target: str) -> HintQueue:
        hints, size, oldest_ms = 0, 0, 0
        after: bytes = b""
        while page := self.page(target, after, _QUEUES_PAGE):
            oldest_page_ms = min(hint.created_ms for hint in page)
            oldest_ms = min(oldest_ms, oldest_page_ms) if hints else oldest_page_ms
            hints += len(page)
            size += sum(len(hint.content) for hint in page)
            after = page[-1].key
        return HintQueue(target, hints, size, oldest_ms)


def _changes(memtable: HintMemtable) -> Iterator[HintChange]:
    for target in memtable.targets():
        for key, hint in memtable.after(target, None):
            yield target, key, hint


def _memtable_items(
    memtable: HintMemtable, rank: int, target: str, after: bytes
) -> Iterator[PageItem]:
    for key, hint in memtable.after(target, after):
        yield key, rank, hint


def _decode(target: str, key: bytes, checksum: int, data: bytes) -> Hint:
    if not isinstance(data, bytes) or _checksum(target, key, data) != checksum:
        raise CorruptRecordError(f"A hint for {target} does not match its checksum.")
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise CorruptRecordError(f"A hint for {target} cannot be decoded: {error}.") from error


def _checksum(target: str, key: bytes, data: bytes) -> int:
    return crc32(data, crc32(key, crc32(target.encode())))
