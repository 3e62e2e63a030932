"""What a node does for others as a replica: merge what it is sent, and say what it holds.

Every acknowledgement leaves with the turn's outbox, after the commit; so "stored" always means
durable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from node.errors import CorruptRecordError, FailureKind
from node.node_state import NodeState
from node.ports import Hint, Instant, Position, Record
from node.protocol.messages import (
    ReplicaGet,
    ReplicaGetReply,
    ReplicaPut,
    ReplicaPutReport,
    ReplicaRefused,
    ReplicaScan,
    ReplicaScanReply,
    ReplicaState,
)
from node.protocol.repair_messages import (
    HandoffAck,
    HandoffPut,
)
from node.replication.scan_coordinator import scan_replica

_ABSENT = ReplicaState.ABSENT


class ReplicaService:
    """Answers the requests of coordinators, and of those who bring hints home."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        state.handoff.on_delivered = self.on_hint_delivered

    def handlers(self) -> dict[type, Callable[[str, Any, Instant], None]]:
        """Message type → handler."""
        return {
            ReplicaPut: self.on_replica_put,
            ReplicaGet: self.on_replica_get,
            ReplicaScan: self.on_replica_scan,
            HandoffPut: self.on_handoff_put,
            HandoffAck: self._state.handoff.on_handoff_ack,
        }

    def refuse(self, peer: str, message_id: int, kind: FailureKind, reason: str) -> None:
        """Say that something was definitely not done."""
        self._state.outbox.send(peer, ReplicaRefused(message_id, kind, reason))

    def _is_stale(self, deadline_ms: int, now: Instant) -> bool:
        """Whether nobody waits any more: a resumed node finds queues full of such requests."""
        if now.wall_ms <= deadline_ms + self._state.timing.clock_skew_ms:
            return False
        self._state.stale_requests += 1
        return True

    def on_replica_put(self, sender: str, message: ReplicaPut, now: Instant) -> None:
        """Merge, and acknowledge once this turn is durable."""
        state = self._state
        if self._is_stale(message.deadline_ms, now):
            self.refuse(sender, message.id, FailureKind.UNAVAILABLE, "past its deadline")
        elif not state.storage.accepts_writes():
            self.refuse(sender, message.id, FailureKind.OVERLOADED, "takes no writes")
        elif message.stands_for and not state.handoff.has_room():
            self.refuse(sender, message.id, FailureKind.OVERLOADED, "has no room for hints")
        else:
            partition = state.map.partition_of(message.key)
            if message.report:
                self._apply_and_report(sender, partition, message)
            else:
                state.replica.apply(
                    partition,
                    message.key,
                    message.content,
                    message.recent,
                    message.base,
                    message.base_recent,
                )
                state.outbox.send_put_ack(sender, message.id)
            if message.stands_for:
                state.handoff.keep(
                    message.stands_for,
                    partition,
                    message.key,
                    message.content,
                    message.recent,
                    now,
                    counted=True,
                )

    def _apply_and_report(self, sender: str, partition: int, message: ReplicaPut) -> None:
        """Merge; if the copy was not the one the put was built on, say what it was."""
        replica, outbox, key = self._state.replica, self._state.outbox, message.key
        try:
            record = replica.read(partition, key)
        except CorruptRecordError:
            replica.apply(partition, key, message.content, message.recent)
            outbox.send(sender, ReplicaPutReport(message.id, ReplicaState.NO_EVIDENCE))
            return
        testimony = self._testimony(partition, key, record, message.base)
        replica.merge_into(
            record,
            partition,
            key,
            message.content,
            message.recent,
            message.base,
            message.base_recent,
        )
        if testimony is None:
            outbox.send_put_ack(sender, message.id)
        else:
            outbox.send(sender, ReplicaPutReport(message.id, *testimony))

    def on_handoff_put(self, sender: str, message: HandoffPut, now: Instant) -> None:
        """A hint came home: merge it, and acknowledge once this turn is durable."""
        state = self._state
        if state.storage.accepts_writes():
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
        if self._is_stale(message.deadline_ms, now):
            return
        partition = state.map.partition_of(message.key)
        try:
            record = state.replica.read(partition, message.key)
        except CorruptRecordError:
            state.outbox.send(sender, ReplicaGetReply(message.id, ReplicaState.NO_EVIDENCE))
            return
        if record is None:
            reply = ReplicaGetReply(message.id, self._absence(partition))
        else:
            testimony = self._testimony(partition, message.key, record, message.known)
            if testimony is None:
                state.outbox.send_same(sender, message.id)
                return
            reply = ReplicaGetReply(message.id, *testimony)
        state.outbox.send(sender, reply)

    def _testimony(
        self, partition: int, key: bytes, record: Record | None, expected: bytes
    ) -> tuple[ReplicaState, bytes, bytes] | None:
        """What this node can say of its copy: None if it is, on evidence, the one expected (by
        digest; b"" for none), else (state, content, recent requests)."""
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
