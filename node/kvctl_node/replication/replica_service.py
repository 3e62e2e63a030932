"""What a node does for others as a replica: merge what it is sent, and say what it holds.

Every acknowledgement leaves with the turn's outbox, after the commit; so "stored" always means
durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvctl_node.errors import CorruptRecordError, FailureKind
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Hint, Instant, Position, Record
from kvctl_node.protocol.messages import (
    ObjectPut,
    ReplicaGet,
    ReplicaGetReply,
    ReplicaGets,
    ReplicaPut,
    ReplicaPutAck,
    ReplicaPutReport,
    ReplicaPuts,
    ReplicaRefused,
    ReplicaSame,
    ReplicaScan,
    ReplicaScanReply,
    ReplicaState,
)
from kvctl_node.protocol.repair_messages import (
    HandoffAck,
    HandoffPut,
)
from kvctl_node.replication.new_copies import apply_new, may_be_held
from kvctl_node.replication.scan_coordinator import scan_replica

_ABSENT = ReplicaState.ABSENT

Testimony = tuple[ReplicaState, bytes, bytes]
"""(state, content, recent requests), as `ReplicaGetReply` and `ReplicaPutReport` say it."""


class ReplicaService:
    """Answers the requests of coordinators, and of those who bring hints home."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        state.handoff.on_delivered = self.on_hint_delivered

    def handlers(self) -> dict[type, Callable[[str, Any, Instant], None]]:
        """Message type → handler."""
        return {
            ReplicaPut: self.on_replica_put,
            ReplicaPuts: self.on_replica_puts,
            ReplicaGet: self.on_replica_get,
            ReplicaGets: self.on_replica_gets,
            ReplicaScan: self.on_replica_scan,
            HandoffPut: self.on_handoff_put,
            HandoffAck: self._state.handoff.on_handoff_ack,
        }

    def refuse(self, peer: str, message_id: int, kind: FailureKind, reason: str) -> None:
        """Say that something was definitely not done."""
        self._state.outbox.send(peer, ReplicaRefused(message_id, kind, reason))

    def _oldest_ms(self, now: Instant) -> int:
        """A request whose deadline is older is stale: nobody waits any more. A node that was paused
        finds its queues full of them."""
        return now.wall_ms - self._state.timing.clock_skew_ms

    def on_replica_put(self, sender: str, message: ReplicaPut, now: Instant) -> None:
        """Merge it, and acknowledge once this turn is durable.

        Raises `ProtocolError` on bytes that are no object.
        """
        state, key, stands_for = self._state, message.key, message.stands_for
        if self._refuses_puts(sender, message.id, message.deadline_ms, 1, now):
            return
        if stands_for and not state.handoff.has_room():
            self.refuse(sender, message.id, FailureKind.OVERLOADED, "has no room for hints")
            return
        partition, content, recent = state.map.partition_of(key), message.content, message.recent
        base, base_recent = message.base, message.base_recent
        if message.report:
            testimony = self._apply_and_tell(partition, key, content, recent, base, base_recent)
        else:
            testimony = None
            state.replica.apply(partition, key, content, recent, base, base_recent)
        if testimony is None:
            state.outbox.send(sender, ReplicaPutAck(message.id))
        else:
            state.outbox.send(sender, ReplicaPutReport(message.id, *testimony))
        if stands_for:
            state.handoff.keep(stands_for, partition, key, content, recent, now, counted=True)

    def on_replica_puts(self, sender: str, message: ReplicaPuts, now: Instant) -> None:
        """Merge all, and acknowledge once this turn is durable. HOT PATH.

        Raises `ProtocolError` on bytes that are no object; some of the others are stored then, and
        nothing is acknowledged.
        """
        if self._refuses_puts(sender, message.id, message.deadline_ms, len(message.puts), now):
            return
        state, but = self._state, []
        if message.report:
            partition_of, apply_and_tell = state.map.partition_of, self._apply_and_tell
            for at, (key, content, recent, base, base_recent) in enumerate(message.puts):
                partition = partition_of(key)
                testimony = apply_and_tell(partition, key, content, recent, base, base_recent)
                if testimony is not None:
                    but.append(at)
                    state.outbox.send(sender, ReplicaPutReport(message.id, *testimony, at))
        else:
            self._apply_all(message.puts)
        state.outbox.send(sender, ReplicaPutAck(message.id, but))

    def _apply_all(self, puts: Sequence[ObjectPut]) -> None:
        """Merge all, those of new keys together. HOT PATH."""
        state = self._state
        placed = state.map.placed([put[0] for put in puts])
        held = may_be_held(state, placed)
        for at in held:
            state.replica.apply(placed.partitions[at], *puts[at])
        if held:
            new = [at for at in range(len(puts)) if at not in held]
            puts, placed = [puts[at] for at in new], placed.at(new)
        if puts:
            _, contents, recents, _, _ = zip(*puts, strict=True)
            apply_new(state, placed, contents, recents)

    def _refuses_puts(
        self, sender: str, message_id: int, deadline_ms: int, count: int, now: Instant
    ) -> bool:
        """Whether nothing may be stored now; whoever asked is told."""
        state = self._state
        if deadline_ms < self._oldest_ms(now):
            state.stale_requests += count
            self.refuse(sender, message_id, FailureKind.UNAVAILABLE, "past its deadline")
            return True
        if not state.storage.accepts_writes():
            self.refuse(sender, message_id, FailureKind.OVERLOADED, "takes no writes")
            return True
        return False

    def _apply_and_tell(
        self,
        partition: int,
        key: bytes,
        content: bytes,
        recent: bytes,
        base: bytes,
        base_recent: int,
    ) -> Testimony | None:
        """Merge; if the copy was not the one the put was built on, say what it was."""
        replica = self._state.replica
        try:
            record = replica.read(partition, key)
        except CorruptRecordError:
            replica.apply(partition, key, content, recent)
            return ReplicaState.NO_EVIDENCE, b"", b""
        testimony = self._testimony(partition, key, record, base)
        replica.merge_into(record, partition, key, content, recent, base, base_recent)
        return testimony

    def on_handoff_put(self, sender: str, message: HandoffPut, now: Instant) -> None:
        """A hint came home: merge it, and acknowledge once this turn is durable."""
        state = self._state
        if message.deadline_ms < self._oldest_ms(now):
            state.stale_requests += 1  # its holder sends it again
        elif state.storage.accepts_writes():
            partition = state.map.partition_of(message.key)
            state.replica.apply(partition, message.key, message.content, message.recent)
            state.outbox.send(sender, HandoffAck(message.id))

    def on_hint_delivered(self, hint: Hint, now: Instant) -> None:
        """A stand-in's copy goes with its last hint, once the owner is known to have all of it."""
        state, key = self._state, hint.key
        if state.name in state.map.owners[hint.partition] or state.handoff.holds_anything_for(key):
            return
        try:
            record = state.replica.read(hint.partition, key)
        except CorruptRecordError:
            record = None
        if record is None or record.digest == hint.digest:
            state.replica.forget(hint.partition, key)
        else:
            # The copy grew beyond what the hint held: send home what it is now.
            state.handoff.keep(
                hint.target,
                hint.partition,
                key,
                record.content,
                record.recent,
                now,
                counted=hint.counted,
            )

    def on_replica_get(self, sender: str, message: ReplicaGet, now: Instant) -> None:
        """Answer with the copy, or with less where that says as much."""
        state = self._state
        if message.deadline_ms < self._oldest_ms(now):
            state.stale_requests += 1
            return
        testimony = self._look(message.key, message.known)
        if testimony is None:
            state.outbox.send(sender, ReplicaSame(message.id))
        else:
            state.outbox.send(sender, ReplicaGetReply(message.id, *testimony))

    def on_replica_gets(self, sender: str, message: ReplicaGets, now: Instant) -> None:
        """Answer for all, and with the copies of those that are not as known. HOT PATH."""
        state = self._state
        if message.deadline_ms < self._oldest_ms(now):
            state.stale_requests += len(message.gets)
            return
        read, partition_of = state.storage.get, state.map.partition_of
        evident = state.replica.all_evident
        but: list[int] = []
        for at, (key, known) in enumerate(message.gets):
            if evident:
                try:
                    record = read(partition_of(key), key)
                except CorruptRecordError:
                    record = None
                if record is not None and record.digest == known:
                    continue
            testimony = self._look(key, known)
            if testimony is not None:
                but.append(at)
                state.outbox.send(sender, ReplicaGetReply(message.id, *testimony, at))
        state.outbox.send(sender, ReplicaSame(message.id, but))

    def _look(self, key: bytes, known: bytes) -> Testimony | None:
        """What to answer of a key: None if the copy is, on evidence, the one known."""
        replica, partition = self._state.replica, self._state.map.partition_of(key)
        try:
            record = replica.read(partition, key)
        except CorruptRecordError:
            return ReplicaState.NO_EVIDENCE, b"", b""
        if record is None:
            return self._absence(partition), b"", b""
        return self._testimony(partition, key, record, known)

    def _testimony(
        self, partition: int, key: bytes, record: Record | None, expected: bytes
    ) -> Testimony | None:
        """What this node can say of its copy: None if it is, on evidence, the one expected (by
        digest; b"" for none)."""
        if record is None:
            state = self._absence(partition)
            return None if state is _ABSENT and not expected else (state, b"", b"")
        if not self._state.replica.is_evidence(partition, key):
            return ReplicaState.UNPROVEN, record.content, record.recent
        if record.digest == expected:
            return None
        return ReplicaState.DIFFERENT, record.content, record.recent

    def _absence(self, partition: int) -> ReplicaState:
        """Only an owner's missing copy says that a key does not exist."""
        owners = self._state.map.owners[partition]
        return _ABSENT if self._state.name in owners else ReplicaState.NO_EVIDENCE

    def on_replica_scan(self, sender: str, message: ReplicaScan, now: Instant) -> None:
        """Answer with a page of what is here."""
        start = Position(message.partition, message.key)
        try:
            entries, after = scan_replica(self._state, start, message.prefix, message.limit)
        except CorruptRecordError:
            self.refuse(sender, message.id, FailureKind.UNAVAILABLE, "has damaged records")
            return
        end = Position(-1, b"") if after is None else after
        self._state.outbox.send(sender, ReplicaScanReply(message.id, tuple(entries), *end))
