"""What a node does for others as a replica: merge what it is sent, and say what it holds.

Every acknowledgement leaves with the turn's outbox, after the commit; so "stored" always means
durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
            ReplicaScan: self.on_replica_scan,
            HandoffPut: self.on_handoff_put,
            HandoffAck: self._state.handoff.on_handoff_ack,
        }

    def run_handlers(self) -> dict[type, Callable[[str, Iterator[Any], Instant], None]]:
        """Message type → handler of several that came together."""
        return {ReplicaPut: self.on_replica_puts, ReplicaGet: self.on_replica_gets}

    def refuse(self, peer: str, message_id: int, kind: FailureKind, reason: str) -> None:
        """Say that something was definitely not done."""
        self._state.outbox.send(peer, ReplicaRefused(message_id, kind, reason))

    def _oldest_ms(self, now: Instant) -> int:
        """A request whose deadline is older is stale: nobody waits any more. A node that was paused
        finds its queues full of them."""
        return now.wall_ms - self._state.timing.clock_skew_ms

    def on_replica_puts(self, sender: str, messages: Iterator[ReplicaPut], now: Instant) -> None:
        """Merge each, and acknowledge once this turn is durable. HOT PATH.

        Raises `ProtocolError` on bytes that are no object.
        """
        state = self._state
        replica, handoff, outbox = state.replica, state.handoff, state.outbox
        partition_of, accepts_writes = state.map.partition_of, state.storage.accepts_writes
        oldest_ms = self._oldest_ms(now)
        stored: list[int] = []
        try:
            for message in messages:
                key, stands_for = message.key, message.stands_for
                if message.deadline_ms < oldest_ms:
                    state.stale_requests += 1
                    self.refuse(sender, message.id, FailureKind.UNAVAILABLE, "past its deadline")
                    continue
                if not accepts_writes():
                    self.refuse(sender, message.id, FailureKind.OVERLOADED, "takes no writes")
                    continue
                if stands_for and not handoff.has_room():
                    self.refuse(sender, message.id, FailureKind.OVERLOADED, "has no room for hints")
                    continue
                partition, content, recent = partition_of(key), message.content, message.recent
                testimony = None
                if message.report:
                    testimony = self._apply_and_tell(partition, message)
                else:
                    replica.apply(
                        partition, key, content, recent, message.base, message.base_recent
                    )
                if testimony is None:
                    stored.append(message.id)
                else:
                    outbox.send(sender, ReplicaPutReport(message.id, *testimony))
                if stands_for:
                    handoff.keep(stands_for, partition, key, content, recent, now, counted=True)
        finally:
            outbox.send_put_acks(sender, stored)

    def _apply_and_tell(self, partition: int, message: ReplicaPut) -> Testimony | None:
        """Merge; if the copy was not the one the put was built on, say what it was."""
        replica, key = self._state.replica, message.key
        try:
            record = replica.read(partition, key)
        except CorruptRecordError:
            replica.apply(partition, key, message.content, message.recent)
            return ReplicaState.NO_EVIDENCE, b"", b""
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
        return testimony

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

    def on_replica_gets(self, sender: str, messages: Iterator[ReplicaGet], now: Instant) -> None:
        """Answer each with the copy, or with less where that says as much. HOT PATH."""
        state = self._state
        replica, outbox, partition_of = state.replica, state.outbox, state.map.partition_of
        oldest_ms = self._oldest_ms(now)
        same: list[int] = []
        for message in messages:
            if message.deadline_ms < oldest_ms:
                state.stale_requests += 1
                continue
            key = message.key
            partition = partition_of(key)
            try:
                record = replica.read(partition, key)
            except CorruptRecordError:
                outbox.send(sender, ReplicaGetReply(message.id, ReplicaState.NO_EVIDENCE))
                continue
            if record is None:
                outbox.send(sender, ReplicaGetReply(message.id, self._absence(partition)))
                continue
            testimony = self._testimony(partition, key, record, message.known)
            if testimony is None:
                same.append(message.id)
            else:
                outbox.send(sender, ReplicaGetReply(message.id, *testimony))
        outbox.send_sames(sender, same)

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
