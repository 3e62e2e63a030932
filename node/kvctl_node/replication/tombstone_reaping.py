"""Forgetting tombstones: the only way in which a key's history ever ends.

A tombstone has to outlive every older copy of its key, or the deleted value would come back. So it
goes only when nobody has anything older left, and when that was asked of everybody:

    find ──▶ ask all members ──▶ pause ──▶ ask them again ──▶ order the other primaries ──▶ drop
             every primary holds exactly this tombstone, and nobody a hint,        the own copy
             a stand-in's copy or a copy that was left behind by a move

* Only tombstones older than the grace time are looked at; it is longer than hints, retries and
  messages live.
* Asking twice, the second time after all first answers, meets a hint that moved from one member to
  another between their answers.
* The pause before that is longer than any message with an older copy lives: a hint, a repair or a
  replica's write that was sent before the first answers has come and been seen by the second, or is
  refused for its deadline. (A second copy of a delivered hint, held back by the network until after
  the drop, would bring the value back.)
* Each drop is compare-and-delete: a primary whose copy changed meanwhile keeps it.
* A primary raises its actor epoch before it drops copies that it minted dots for, once per batch,
  so that a key created again never repeats a dot.
* The asker drops last, and only what all others have dropped. If an answer is lost, its copy stays
  and anti-entropy brings the tombstone back to the others: forgetting is tried again later.

Any member missing, at any step, ends the attempt. The first owner of a partition does the asking.

What goes wrong without a new epoch is told in riak_kv's issues 679 and 1094. Asking every member
twice is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from kvctl_node.causality.siblings import TOMBSTONE, StoredObject, decode_object
from kvctl_node.errors import CorruptRecordError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant, Position, Record
from kvctl_node.protocol.repair_messages import (
    ReapAnswer,
    ReapDone,
    ReapOrder,
    ReapQuestion,
)

SLICE_KEYS = 128
SLICE_BYTES_MAX = 1024 * 1024
SLICE_INTERVAL_S = 0.25
"""Looking for old tombstones reads everything once per interval; there is no hurry, and a busy node
has better things to do."""
BATCH_KEYS_MAX = 64
"""Tombstones asked about together."""


class ReapStep(Enum):
    """What a batch is waiting for."""

    ASKED_ONCE = 1
    PAUSED = 2
    ASKED_TWICE = 3
    ORDERED = 4


class Tombstone(NamedTuple):
    """A copy that may be forgotten if it still has this digest everywhere."""

    key: bytes
    digest: bytes


class _Batch:
    """One attempt: the tombstones left, and who has still to answer."""

    __slots__ = ("id", "lost_s", "paused_until_s", "step", "tombstones", "waiting")

    def __init__(self, tombstones: list[Tombstone]) -> None:
        self.tombstones = tombstones
        self.step = ReapStep.ASKED_ONCE
        self.id = 0
        self.lost_s = 0.0
        self.paused_until_s = 0.0
        self.waiting: dict[str, list[Tombstone]] = {}
        """Node → what it was asked about, in the order of its answer."""


_ENCODED_TOMBSTONE = msgspec.msgpack.encode(TOMBSTONE)


def may_hold_tombstone(content: bytes) -> bool:
    """Whether an encoded object may have a tombstone; quick, and right when it says no."""
    return _ENCODED_TOMBSTONE in content


def is_forgettable(stored: StoredObject, now: Instant, grace_ms: int) -> bool:
    """Whether nothing but tombstones is left, and the youngest write is older than the grace."""
    if not stored.deleted or not stored.siblings:
        return False
    context = stored.context
    youngest_ms = max((stamp for _, _, stamp in (*context.vector, *context.detached)), default=0)
    return now.wall_ms - youngest_ms > grace_ms


class TombstoneReaping:
    """Looks for old tombstones of which this node is the first owner, and gets them forgotten."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._config = state.config.repair
        self._cursor: Position | None = None
        self._found: list[Tombstone] = []
        self._batch: _Batch | None = None
        self._slice_s = 0.0
        self._sweep_s: float | None = None
        self.reaped = 0
        """Keys forgotten here since the start."""

    def handlers(self) -> dict[type, Callable[[str, Any, Instant], None]]:
        """Message type → handler."""
        return {
            ReapQuestion: self.on_reap_question,
            ReapAnswer: self.on_reap_answer,
            ReapOrder: self.on_reap_order,
            ReapDone: self.on_reap_done,
        }

    # ------------------------------------------------------------ finding

    def next_s(self, now: Instant) -> float:
        """When there is something to do, on the monotonic clock."""
        batch = self._batch
        if batch is not None and batch.step is ReapStep.PAUSED:
            return batch.paused_until_s
        if batch is not None:
            return batch.lost_s
        if self._cursor is not None or self._found:
            return self._slice_s
        return now.monotonic_s + 60 if self._sweep_s is None else self._sweep_s

    def on_tick(self, now: Instant) -> None:
        """Give up what was not answered, and look for more."""
        batch = self._batch
        if batch is not None:
            if batch.step is ReapStep.PAUSED:
                if now.monotonic_s >= batch.paused_until_s:
                    self._ask(batch, ReapStep.ASKED_TWICE, now)
            elif now.monotonic_s >= batch.lost_s:
                self._batch = None
            return
        if self._sweep_s is None:
            interval_s = self._config.reap_interval_ms / 1000
            if not interval_s:
                return
            self._sweep_s = now.monotonic_s + interval_s * (0.5 + self._state.rng.random())
        if self._cursor is None and now.monotonic_s >= self._sweep_s:
            self._sweep_s = now.monotonic_s + self._config.reap_interval_ms / 1000
            self._cursor = Position(0, b"")
        if now.monotonic_s < self._slice_s:
            return
        if len(self._found) >= BATCH_KEYS_MAX or (self._found and self._cursor is None):
            some, self._found = self._found[:BATCH_KEYS_MAX], self._found[BATCH_KEYS_MAX:]
            self._begin(some, now)
        elif self._cursor is not None:
            self._slice_s = now.monotonic_s + SLICE_INTERVAL_S
            self._look_on(self._cursor, now)

    def _look_on(self, cursor: Position, now: Instant) -> None:
        """One slice of the sweep."""
        if not self._all_reachable():
            self._cursor = None
            self._found.clear()
            return
        state = self._state
        stop = state.map.partitions
        try:
            page = state.storage.scan(cursor, stop, limit=SLICE_KEYS, bytes_max=SLICE_BYTES_MAX)
        except CorruptRecordError:
            after = cursor.partition + 1
            self._cursor = Position(after, b"") if after < stop else None
        else:
            self._cursor = page.next
            for entry in page.entries:
                record = entry.record
                if (
                    state.map.owners[entry.partition][0] == state.name
                    and may_hold_tombstone(record.content)
                    and self._is_old(record, now)
                ):
                    self._found.append(Tombstone(entry.key, record.digest))

    def _is_old(self, record: Record, now: Instant) -> bool:
        return is_forgettable(decode_object(record.content), now, self._config.reap_grace_ms)

    def _all_reachable(self) -> bool:
        return all(self._state.can_reach(member) for member in self._state.map.members)

    # ------------------------------------------------------------ asking

    def _begin(self, tombstones: list[Tombstone], now: Instant) -> None:
        self._batch = _Batch(tombstones)
        self._ask(self._batch, ReapStep.ASKED_ONCE, now)

    def _ask(self, batch: _Batch, step: ReapStep, now: Instant) -> None:
        """Ask every member about every tombstone that is left."""
        clear = self._clear_here(batch.tombstones)
        batch.tombstones = [one for one, ok in zip(batch.tombstones, clear, strict=True) if ok]
        everyone = dict.fromkeys(self._others(self._state.map.members), batch.tombstones)
        self._send(batch, step, everyone, now)

    def _order(self, batch: _Batch, now: Instant) -> None:
        """Everybody cleared these twice: have the other primaries drop them."""
        by_owner: dict[str, list[Tombstone]] = {}
        for one in batch.tombstones:
            for owner in self._others(self._owners_of(one.key)):
                by_owner.setdefault(owner, []).append(one)
        self._send(batch, ReapStep.ORDERED, by_owner, now)

    def _send(
        self, batch: _Batch, step: ReapStep, asked: dict[str, list[Tombstone]], now: Instant
    ) -> None:
        state = self._state
        if not batch.tombstones or not self._all_reachable():
            self._batch = None
            return
        batch.step, batch.waiting = step, dict(asked)
        batch.id = state.next_id()
        timeout_ms = state.timing.replica_timeout_ms
        batch.lost_s = now.monotonic_s + timeout_ms / 1000
        message = ReapOrder if step is ReapStep.ORDERED else ReapQuestion
        for node, tombstones in asked.items():
            keys = tuple((key, digest) for key, digest in tombstones)
            state.outbox.send(node, message(batch.id, keys, now.wall_ms + timeout_ms))
        self._go_on(batch, now)

    def on_reap_answer(self, sender: str, message: ReapAnswer, now: Instant) -> None:
        """A member says which of the tombstones it has nothing against."""
        batch = self._batch
        if batch is not None and batch.step is not ReapStep.ORDERED:
            self._take(batch, sender, message.id, message.clear, now)

    def on_reap_done(self, sender: str, message: ReapDone, now: Instant) -> None:
        """A primary says which of the copies it has dropped."""
        batch = self._batch
        if batch is not None and batch.step is ReapStep.ORDERED:
            self._take(batch, sender, message.id, message.dropped, now)

    def _take(
        self, batch: _Batch, sender: str, message_id: int, yes: tuple[bool, ...], now: Instant
    ) -> None:
        asked = batch.waiting.get(sender)
        if asked is None or message_id != batch.id or len(yes) != len(asked):
            return
        del batch.waiting[sender]
        refused = {one.key for one, ok in zip(asked, yes, strict=True) if not ok}
        batch.tombstones = [one for one in batch.tombstones if one.key not in refused]
        self._go_on(batch, now)

    def _go_on(self, batch: _Batch, now: Instant) -> None:
        """Take the next step once everybody has answered."""
        if batch.waiting:
            return
        if batch.step is ReapStep.ASKED_ONCE:
            batch.step = ReapStep.PAUSED
            batch.paused_until_s = now.monotonic_s + self._message_life_s()
        elif batch.step is ReapStep.ASKED_TWICE:
            self._order(batch, now)
        else:
            self._batch = None
            self._drop(batch.tombstones, now)

    def _message_life_s(self) -> float:
        """How long a copy that somebody has read or sent may still turn up: one replica timeout
        while a coordinator collects answers, and one while what it sends then is on its way."""
        timing = self._state.timing
        return (2 * timing.replica_timeout_ms + 2 * timing.clock_skew_ms) / 1000

    # ------------------------------------------------------------ answering

    def on_reap_question(self, sender: str, message: ReapQuestion, now: Instant) -> None:
        """Answer for this node."""
        if not self._is_stale(message.deadline_ms, now):
            clear = self._clear_here([Tombstone(*one) for one in message.keys])
            self._state.outbox.send(sender, ReapAnswer(message.id, tuple(clear)))

    def on_reap_order(self, sender: str, message: ReapOrder, now: Instant) -> None:
        """Drop what may be dropped, durably with this turn, and say so."""
        if not self._is_stale(message.deadline_ms, now):
            dropped = self._drop([Tombstone(*one) for one in message.keys], now)
            self._state.outbox.send(sender, ReapDone(message.id, tuple(dropped)))

    def _is_stale(self, deadline_ms: int, now: Instant) -> bool:
        return deadline_ms + self._state.timing.clock_skew_ms < now.wall_ms

    def _clear_here(self, tombstones: list[Tombstone]) -> list[bool]:
        return [self._is_clear(one) for one in tombstones]

    def _is_clear(self, tombstone: Tombstone) -> bool:
        """A primary: just this copy and nothing else; anybody else: nothing at all."""
        state, key = self._state, tombstone.key
        if state.replica.unproven or key in state.replica.doubted:
            return False
        if state.handoff.holds_anything_for(key):
            return False
        try:
            record = state.storage.get(state.map.partition_of(key), key)
        except CorruptRecordError:
            return False
        if state.name not in self._owners_of(key):
            return record is None
        return record is not None and record.digest == tombstone.digest

    def _drop(self, tombstones: list[Tombstone], now: Instant) -> list[bool]:
        """Compare and delete; which of them are gone."""
        grace_ms = self._config.reap_grace_ms - 2 * self._state.timing.clock_skew_ms
        dropped = []
        for one in tombstones:
            partition = self._state.map.partition_of(one.key)
            gone = False
            if self._state.name in self._owners_of(one.key) and self._is_clear(one):
                record = self._state.storage.get(partition, one.key)
                assert record is not None, "a primary is clear only with a copy"
                # Whatever was ordered: nothing but an old tombstone is ever dropped.
                if is_forgettable(decode_object(record.content), now, grace_ms):
                    self._state.replica.forget(partition, one.key)
                    gone = True
            dropped.append(gone)
        if any(dropped):
            self.reaped += sum(dropped)
            self._state.outbox.record("tombstone_reaped", count=sum(dropped))
        return dropped

    def _owners_of(self, key: bytes) -> tuple[str, ...]:
        return self._state.map.owners[self._state.map.partition_of(key)]

    def _others(self, nodes: tuple[str, ...]) -> list[str]:
        return [node for node in nodes if node != self._state.name]

    def check_invariants(self) -> None:
        """Assert that a batch under way waits for somebody, and never for this node."""
        if self._batch is not None:
            is_paused = self._batch.step is ReapStep.PAUSED
            assert is_paused or self._batch.waiting
            assert self._state.name not in self._batch.waiting
